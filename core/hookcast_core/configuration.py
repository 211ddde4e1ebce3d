"""The configuration: every subscription and webhook source with all its references resolved. Pure.

Nothing here shows a secret in a repr or an error. How a configuration travels is in `document`.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, model_validator

from hookcast_core.source import MAX_SECRETS, WebhookSource
from hookcast_core.subscription import Subscription

Source = Literal["kubernetes", "api", "files"]
PlainSecret = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
"""Hidden in repr and in `model_dump()`, plain in JSON: JSON of these models is what gets encrypted."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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
    enabled_at: int | None = None
    """When its user asked for a disabled one to be enabled (epoch ms)."""


class SourceEntry(_Part):
    """One webhook source with all references resolved: what requests to its path are judged by.

    `secrets` has one text for each of the specification's secretRefs, in their order; for Basic it is
    `username:password`, as a request has it in base64 (RFC 7617, section 2).
    """

    uid: str = Field(min_length=1, max_length=128)
    generation: int = Field(ge=0)
    namespace: str
    name: str
    source: Source
    spec: WebhookSource
    secrets: tuple[PlainSecret, ...] = Field(default=(), max_length=MAX_SECRETS)

    @model_validator(mode="after")
    def _all_secrets(self) -> Self:
        if len(self.secrets) != len(self.spec.verification.secret_refs) or not all(self.secrets):
            raise ValueError("secrets: one text for each of spec.verification.secretRefs")
        return self

    @property
    def path(self) -> str:
        """Requests are received at `/webhooks/` and this."""
        return self.spec.path or self.name

    @property
    def event_source(self) -> str:
        """The `source` of its events, a URI reference."""
        return self.spec.event.source or f"/webhooks/{self.path}"


class Configuration(BaseModel):
    """All subscriptions and webhook sources in force, each kept in the order of their UIDs.

    `sequence` rises with every change within one `origin`: the UID of what keeps it in Kubernetes, empty elsewhere.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    sequence: int = Field(ge=0)
    origin: str = ""
    entries: tuple[Entry, ...] = ()
    sources: tuple[SourceEntry, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, value: Any) -> Any:
        return value | {
            name: tuple(sorted(value.get(name, ()), key=lambda entry: entry.uid)) for name in ("entries", "sources")
        }

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for name, uids in (
            ("entries", [entry.uid for entry in self.entries]),
            ("sources", [source.uid for source in self.sources]),
        ):
            if any(first == second for first, second in pairwise(uids)):
                raise ValueError(f"{name}: each UID once")
        if len({source.path for source in self.sources}) < len(self.sources):
            raise ValueError("sources: each path once")
        return self
