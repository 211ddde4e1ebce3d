"""The documents that our kinds come in: Kubernetes' envelope around the specification, and Secrets. Pure."""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hookcast_core.errors import Reason
from hookcast_core.names import check_namespace, check_object_name
from hookcast_core.source import WebhookSource
from hookcast_core.subscription import Subscription, invalid

GROUP = "hookcast.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "WebhookSubscription"
SOURCE_KIND = "WebhookSource"
MAX_NAME = 200
"""Of an object of our kinds: room for the names that are made from it."""

_NAMESPACE = UUID("6f1c3f0e-2a54-5d0b-9c63-5b0a4b1c7d11")
"""Ours; changing it would give every subscription without a UID another one, and lose its deliveries."""

Namespace = Annotated[str, Field(max_length=63), AfterValidator(check_namespace)]


class _Document(BaseModel):
    # Strict, so that a part of the specification that slipped out of `spec` is noticed.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class Metadata(_Document):
    """What identifies an object; whatever else the API server keeps there is passed over."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(check_object_name)]
    namespace: Namespace = "default"
    uid: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    generation: Annotated[int, Field(strict=True, ge=1, lt=2**63)] | None = None

    @property
    def stable_uid(self) -> str:
        """The UID that was given, else UUIDv5 (RFC 9562, 5.5) of namespace and name: the same on every start."""
        return self.uid or str(uuid5(_NAMESPACE, f"{self.namespace}/{self.name}"))


class SubscriptionMetadata(Metadata):
    """What identifies a subscription."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_object_name)]


class SourceMetadata(SubscriptionMetadata):
    """What identifies a source."""

    @property
    def stable_uid(self) -> str:
        """As of any object, and not that of the subscription with the same name."""
        return self.uid or str(uuid5(_NAMESPACE, f"{SOURCE_KIND}/{self.namespace}/{self.name}"))


class SubscriptionDocument(_Document):
    """A WebhookSubscription as it stands in a file or in the Kubernetes API."""

    api_version: Literal["hookcast.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["WebhookSubscription"]
    metadata: SubscriptionMetadata
    spec: Subscription
    status: Any = Field(default=None, exclude=True, repr=False)
    """Written by the operator; nothing is read from it."""


class SourceDocument(_Document):
    """A WebhookSource as it stands in a file or in the Kubernetes API."""

    api_version: Literal["hookcast.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["WebhookSource"]
    metadata: SourceMetadata
    spec: WebhookSource
    status: Any = Field(default=None, exclude=True, repr=False)
    """Written by the operator; nothing is read from it."""


class SecretDocument(_Document):
    """A core/v1 Secret; `stringData` wins over `data`, as in Kubernetes. Its repr shows no value."""

    api_version: Literal["v1"] = Field(alias="apiVersion")
    kind: Literal["Secret"]
    metadata: Metadata
    type: str | None = None
    immutable: bool | None = None
    data: dict[str, str] = Field(default={}, repr=False, max_length=1_000)
    string_data: dict[str, str] = Field(default={}, alias="stringData", repr=False, max_length=1_000)

    def values(self) -> dict[str, bytes]:
        """Every key's bytes; ValueError names a key whose data is not base64."""
        values = {}
        for key, encoded in self.data.items():
            try:
                values[key] = b64decode("".join(encoded.split()), validate=True)
            except (Base64Error, ValueError):
                raise ValueError(f"data.{key} is not base64; write the text itself into stringData") from None
        return values | {key: text.encode() for key, text in self.string_data.items()}


def parse_subscription_document(value: Any) -> SubscriptionDocument:
    """The document of a decoded value; InvalidInput(InvalidSubscription) with the first wrong field's path."""
    try:
        return SubscriptionDocument.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def parse_source_document(value: Any) -> SourceDocument:
    """The document of a decoded value; InvalidInput(InvalidSource) with the first wrong field's path."""
    try:
        return SourceDocument.model_validate(value)
    except ValidationError as error:
        raise invalid(error, reason=Reason.INVALID_SOURCE) from None


def parse_secret_document(value: Any) -> SecretDocument:
    """The Secret of a decoded value; InvalidInput with the first wrong field's path, never with a value."""
    try:
        return SecretDocument.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None
