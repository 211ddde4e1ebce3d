"""The dispatcher's configuration: every subscription with all its references resolved, as one document. Pure.

Its canonical bytes are the same for the same content, whatever order it came in; they hold secrets in plain text, so
that whoever stores or sends them encrypts them first. Nothing here shows a secret in a repr or an error.
"""

import json
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, ValidationError, model_validator

from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.subscription import Subscription, field_path

Source = Literal["kubernetes", "api", "files"]
PlainSecret = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
"""Hidden in repr and in `model_dump()`, plain in JSON: JSON of this module is what gets encrypted."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class SigningKey(_Part):
    """A key that requests are signed with until `expires_at` (epoch ms), or for good."""

    algorithm: Literal["HMAC", "Ed25519"]
    secret: PlainSecret
    expires_at: int | None = None


class ClientCertificate(_Part):
    """What we present to an endpoint that asks: PEM texts, the chain beginning with our own, the key unencrypted."""

    chain: str
    key: str = Field(repr=False)


class Entry(_Part):
    """One subscription with all references resolved: what the dispatcher works from. URL and headers may be secret."""

    uid: str = Field(min_length=1, max_length=128)
    generation: int = Field(ge=0)
    namespace: str
    name: str
    source: Source
    spec: Subscription
    url: str = Field(repr=False)
    headers: tuple[tuple[str, str], ...] = Field(default=(), repr=False)
    signing_keys: tuple[SigningKey, ...] = Field(default=(), max_length=10)
    ca_certificate: str | None = Field(default=None, repr=False)
    client_certificate: ClientCertificate | None = None


class Configuration(BaseModel):
    """All subscriptions in force; `sequence` rises with every change. Entries are kept in the order of their UIDs."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    format: Literal[1] = 1
    sequence: int = Field(ge=0)
    entries: tuple[Entry, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, value: Any) -> Any:
        if isinstance(value, dict) and all(isinstance(entry, Entry) for entry in value.get("entries", ())):
            return {**value, "entries": tuple(sorted(value.get("entries", ()), key=lambda entry: entry.uid))}
        return value

    @model_validator(mode="after")
    def _unique(self) -> Self:
        uids = [entry.uid for entry in self.entries]
        if any(first >= second for first, second in pairwise(uids)):
            raise ValueError("entries: each UID once, in the order of the UIDs")
        return self

    def canonical(self) -> bytes:
        """The document as UTF-8 JSON: keys sorted, no spaces, defaults written out. It holds secrets in plain text."""
        value = self.model_dump(mode="json", by_alias=True)
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @cached_property
    def revision(self) -> str:
        """SHA-256 over the canonical bytes, in hexadecimal."""
        return sha256(self.canonical()).hexdigest()


def parse_configuration(document: bytes) -> Configuration:
    """The configuration of canonical bytes. InvalidInput names the first field that is wrong, without its value."""
    try:
        return Configuration.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = field_path(first["loc"]) or None
        raise InvalidInput(Reason.INVALID_SUBSCRIPTION, field, first["msg"]) from None
