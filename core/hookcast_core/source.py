"""The webhook source's specification: one model for the custom resource, the REST body and the YAML file.

Pure, and like `subscription` in everything: camelCase on the wire, unknown fields refused, every string and list
bounded. Secrets are checked in `resolve`. What depends on the scheme (a tolerance, the place of the event's id) has no
default, which would be written into objects whose scheme does not know it; properties give the value in effect.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from hookcast_core.durations import MINUTE, Duration
from hookcast_core.errors import Reason
from hookcast_core.subscription import DispatcherRef, Model, ObjectName, SecretKey, Within, invalid
from hookcast_core.templates import (
    CHANNEL,
    MAX_REFERENCE,
    MAX_TEMPLATE,
    TYPE,
    Reference,
    parse_reference,
    parse_template,
)

MAX_SECRETS = 10
MAX_PATH = 200
MAX_EVENT_SOURCE = 256
MAX_BODY = 4096
DEFAULT_TOLERANCE = 5 * MINUTE
RESERVED_TYPES = "hookcast."
_MAX_TYPE = 128
_NO_CONTENT = 204

Scheme = Literal[
    "GitHub", "GitLab", "Stripe", "Slack", "Shopify", "StandardWebhooks", "HMAC", "Basic", "Bearer", "None"
]
TIMED: frozenset[Scheme] = frozenset({"Stripe", "Slack", "StandardWebhooks"})
"""Schemes that sign a time, so that an old request can be told from a new one."""
EVENT_IDS: Mapping[Scheme, str] = {
    "GitHub": "header:X-GitHub-Delivery",
    "GitLab": "header:Idempotency-Key",
    "Stripe": "body:id",
    "Slack": "body:event_id",
    "Shopify": "header:X-Shopify-Event-Id",
    "StandardWebhooks": "header:webhook-id",
}
"""Where each sender says which event it is: the same whenever it is sent again."""

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_HEADER = re.compile(r"[A-Za-z0-9_-]+")
_PREFIX = re.compile(r"[!-~][ -~]*")
_URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _check_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError('write one segment of a URL: letters, digits and any of "-._~", the first a letter or digit')
    return path


def _check_header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError('write the name of a header: letters, digits, "-" and "_"')
    return name


def _check_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError('write what stands before the signature, like "sha256=": ASCII that begins with no space')
    return prefix


def _check_type(text: str) -> str:
    if text.startswith(RESERVED_TYPES):
        raise ValueError(f"types that begin with {RESERVED_TYPES} are reserved; choose another")
    if len(parse_template(text, TYPE).literal) > _MAX_TYPE:
        raise ValueError(f"an event type has at most {_MAX_TYPE} characters; shorten what stands outside of braces")
    return text


def _check_channel(text: str) -> str:
    parse_template(text, CHANNEL)
    return text


def _check_id(text: str) -> str:
    parse_reference(text)
    return text


def _check_event_source(text: str) -> str:
    if not _URI_REFERENCE.fullmatch(text):
        raise ValueError('write a URI reference, like "/shop/orders", without spaces and braces')
    return text


def _check_body(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("the text holds no control characters besides tabs and line breaks")
    return text


Path = Annotated[str, Field(min_length=1, max_length=MAX_PATH), AfterValidator(_check_path)]
SignatureHeader = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_header)]
SignaturePrefix = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_prefix)]
TypeTemplate = Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE), AfterValidator(_check_type)]
ChannelTemplate = Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE), AfterValidator(_check_channel)]
EventId = Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE), AfterValidator(_check_id)]
EventSource = Annotated[str, Field(min_length=1, max_length=MAX_EVENT_SOURCE), AfterValidator(_check_event_source)]
Body = Annotated[str, Field(max_length=MAX_BODY), AfterValidator(_check_body)]


class VerificationSecretRef(Model):
    """What requests are verified with, kept in a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the source's namespace.")
    key: SecretKey | None = Field(
        default=None,
        description="Key within the Secret's data. Required, but for Basic, which reads username and password.",
    )


class Verification(Model):
    """How it is made sure that a request comes from its sender; whatever cannot be verified is refused."""

    scheme: Scheme = Field(
        description="How requests are signed. None takes requests from everyone and has to be written out."
    )
    secret_refs: Annotated[tuple[VerificationSecretRef, ...], Field(max_length=MAX_SECRETS)] = Field(
        default=(), description="Secrets, newest first; each of them is accepted, so that they can be rotated."
    )
    tolerance: Annotated[Duration, Within("1s", "1h")] | None = Field(
        default=None,
        description="How far a signed time may be off, for Stripe, Slack and StandardWebhooks; 5m if not given.",
    )
    header: SignatureHeader | None = Field(default=None, description="The header that holds the signature, for HMAC.")
    algorithm: Literal["SHA256", "SHA512", "SHA1"] | None = Field(
        default=None, description="The hash of an HMAC over the body, for HMAC; SHA256 if not given."
    )
    encoding: Literal["Hex", "Base64"] | None = Field(
        default=None, description="How the signature is written, for HMAC; Hex if not given."
    )
    prefix: SignaturePrefix | None = Field(
        default=None, description='What stands before the signature, like "sha256=", for HMAC.'
    )

    @property
    def tolerance_ms(self) -> int:
        """How far a signed time may be off, in milliseconds."""
        return DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance

    @property
    def hmac_algorithm(self) -> str:
        """The hash for the scheme HMAC."""
        return self.algorithm or "SHA256"

    @property
    def hmac_encoding(self) -> str:
        """How the signature is written for the scheme HMAC."""
        return self.encoding or "Hex"

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        self._check_secrets()
        if self.scheme == "HMAC" and self.header is None:
            raise ValueError("header: name the header that holds the signature")
        if self.scheme != "HMAC" and any((self.header, self.algorithm, self.encoding, self.prefix)):
            raise ValueError("header, algorithm, encoding and prefix are for the scheme HMAC; remove them")
        if self.tolerance is not None and self.scheme not in TIMED:
            raise ValueError(f"tolerance is for the schemes Slack, StandardWebhooks and Stripe; {self.scheme} has none")
        return self

    def _check_secrets(self) -> None:
        if self.scheme == "None" and self.secret_refs:
            raise ValueError("secretRefs: None verifies nothing; remove them, or choose the sender's scheme")
        if self.scheme != "None" and not self.secret_refs:
            raise ValueError(f"secretRefs: name the Secret that requests are verified with; {self.scheme} needs one")
        for index, reference in enumerate(self.secret_refs):
            if self.scheme == "Basic" and reference.key is not None:
                raise ValueError(f"secretRefs[{index}].key: Basic reads username and password; remove the key")
            if self.scheme != "Basic" and reference.key is None:
                raise ValueError(f"secretRefs[{index}].key: name the key that holds the secret")


class SourceEvent(Model):
    """The event that a request becomes; the request's body is its data."""

    type: TypeTemplate = Field(
        description="Type of the event. {header:NAME} and {body:PATH} stand for values of the request; one that a "
        "request lacks is left out with the dot before it."
    )
    source: EventSource | None = Field(
        default=None, description="Source of the event, a URI reference; /webhooks/PATH if not given."
    )
    id: EventId | None = Field(
        default=None,
        description="Where the event's id is, header:NAME or body:PATH, so that what is sent again is a duplicate. If "
        "not given it is where the scheme has it; HMAC, Basic, Bearer and None have none, and each request is new.",
    )


class SourceResponse(Model):
    """What the sender is answered once the event is stored."""

    status: Literal[200, 202, 204] = Field(default=202, description="Status of the answer.")
    body: Body | None = Field(
        default=None, description="Text of the answer; the event's id as JSON if not given, and nothing with 204."
    )

    @model_validator(mode="after")
    def _no_content_is_empty(self) -> Self:
        if self.status == _NO_CONTENT and self.body is not None:
            raise ValueError("an answer with the status 204 has no body; remove it, or write 200 or 202")
        return self


class WebhookSource(Model):
    """A source: how webhooks of a sender are verified, and the events that they become."""

    dispatcher_ref: DispatcherRef = Field(default=DispatcherRef(), description="The dispatcher that serves it.")
    path: Path | None = Field(
        default=None,
        description="Requests are received at /webhooks/PATH; the source's name if not given. Of sources with the same "
        "path the oldest has it.",
    )
    verification: Verification = Field(description="How requests are verified.")
    event: SourceEvent = Field(description="The event that a request becomes.")
    channel: ChannelTemplate | None = Field(
        default=None,
        description="A channel to publish the event on as well, with the references of event.type; a request that "
        "lacks a value for it is not published there.",
    )
    response: SourceResponse = Field(default=SourceResponse(), description="What the sender is answered.")

    @property
    def event_id(self) -> Reference | None:
        """Where a request says which event it is, or None: then each request is a new one."""
        text = self.event.id or EVENT_IDS.get(self.verification.scheme)
        return None if text is None else parse_reference(text)


def parse_webhook_source(value: Any, *, prefix: str = "") -> WebhookSource:
    """The model of a decoded JSON or YAML value; InvalidInput(InvalidSource) with the first bad field's path.

    `prefix` is put before the path (`spec.`). The message never holds the value itself, which may be a secret.
    """
    try:
        return WebhookSource.model_validate(value)
    except ValidationError as error:
        raise invalid(error, prefix, Reason.INVALID_SOURCE) from None
