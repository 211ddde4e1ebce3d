"""What of the API server's objects concerns us. Pure; it takes decoded JSON and keeps the parts that are used."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.subscription import epoch_ms

ALLOW_LABEL = "hookcast.dev/allow"
"""On a Secret that objects of its namespace may refer to: "true"."""
ENABLE_ANNOTATION = "hookcast.dev/enable"
"""On a subscription: the time at which its user asked for it to be enabled again."""
GENERATED_FOR = "hookcast.dev/generated-for"
"""On a Secret that we made: the name of its subscription."""

Kind = Literal["WebhookSubscription", "WebhookSource"]
Name = tuple[str, str]
"""Namespace and name."""
Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which version of which custom object it is. `created` is RFC 3339 text, which sorts."""

    kind: Kind
    uid: str
    generation: int
    namespace: str
    name: str
    created: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class CustomObject:
    """A subscription or a source. `version` orders what is seen of one object; `deleting` ones no longer count."""

    identity: Identity
    version: int
    spec: Any = field(repr=False)
    status: Raw = field(repr=False)
    dispatcher: str
    enable: str | None
    deleting: bool

    @property
    def key(self) -> str:
        """What it is kept under."""
        return self.identity.uid

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.identity.namespace

    def compiles_like(self, other: "CustomObject") -> bool:
        """Whether the two differ in their status, labels and the like alone."""
        mine, theirs = self.identity, other.identity
        return (mine.uid, mine.generation, self.enable, self.deleting) == (
            theirs.uid,
            theirs.generation,
            other.enable,
            other.deleting,
        )


@dataclass(frozen=True, slots=True)
class SecretObject:
    """A Secret. `owners` are the UIDs of its owners, `generated_for` names the subscription that we made it for."""

    namespace: str
    name: str
    version: int
    is_allowed: bool
    data: Mapping[str, bytes] = field(repr=False)
    owners: frozenset[str] = frozenset()
    generated_for: str | None = None

    @property
    def key(self) -> Name:
        """What it is kept under."""
        return self.namespace, self.name

    def compiles_like(self, other: "SecretObject") -> bool:
        """Whether nothing that a configuration holds has changed."""
        mine, theirs = (self.is_allowed, self.data), (other.is_allowed, other.data)
        return (*mine, self.owners, self.generated_for) == (*theirs, other.owners, other.generated_for)


@dataclass(frozen=True, slots=True)
class NamespaceObject:
    """A namespace that the selector of allowed ones selects."""

    name: str
    version: int

    @property
    def key(self) -> str:
        """What it is kept under."""
        return self.name

    def compiles_like(self, other: "NamespaceObject") -> bool:
        """Its being there is all that counts."""
        return self.name == other.name


def custom_object(kind: Kind, raw: Raw) -> CustomObject:
    """A WebhookSubscription or WebhookSource of the API server; KeyError or ValueError where it is none."""
    metadata = raw["metadata"]
    spec = raw.get("spec", {})
    reference = spec.get("dispatcherRef") if isinstance(spec, dict) else None
    name = reference.get("name") if isinstance(reference, dict) else None
    identity = Identity(
        kind,
        metadata["uid"],
        int(metadata.get("generation", 0)),
        metadata["namespace"],
        metadata["name"],
        metadata["creationTimestamp"],
    )
    return CustomObject(
        identity=identity,
        version=int(metadata["resourceVersion"]),
        spec=spec,
        status=raw.get("status") or {},
        dispatcher=name if isinstance(name, str) else "hookcast",
        enable=(metadata.get("annotations") or {}).get(ENABLE_ANNOTATION),
        deleting="deletionTimestamp" in metadata,
    )


def secret_object(raw: Raw) -> SecretObject:
    """A Secret of the API server; KeyError or ValueError where it is none."""
    metadata = raw["metadata"]
    owners = metadata.get("ownerReferences") or ()
    return SecretObject(
        namespace=metadata["namespace"],
        name=metadata["name"],
        version=int(metadata["resourceVersion"]),
        is_allowed=(metadata.get("labels") or {}).get(ALLOW_LABEL) == "true",
        data={key: b64decode(value) for key, value in (raw.get("data") or {}).items()},
        owners=frozenset(owner["uid"] for owner in owners),
        generated_for=(metadata.get("annotations") or {}).get(GENERATED_FOR),
    )


def namespace_object(raw: Raw) -> NamespaceObject:
    """A Namespace of the API server."""
    return NamespaceObject(raw["metadata"]["name"], int(raw["metadata"]["resourceVersion"]))


def enabled_at(text: str | None) -> int | None:
    """The annotation's time in epoch ms; None without one. InvalidInput where it is no time."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        detail = 'is no time; write one with its zone, such as "2027-01-31T00:00:00Z", or remove the annotation'
        raise InvalidInput(Reason.INVALID_SUBSCRIPTION, f"metadata.annotations[{ENABLE_ANNOTATION}]", detail)
    return epoch_ms(time)
