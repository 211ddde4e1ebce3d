"""What users keep by REST: subscriptions and secrets, and how they become entries of the configuration. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import SecretStr

from hookcast_core.configuration import Entry, SigningKey
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.resolve import Identity, resolve
from hookcast_core.subscription import parse_subscription

MAX_SUBSCRIPTIONS = 10_000
MAX_SECRETS = 10_000


class GeneratedKey(msgspec.Struct, frozen=True):
    """A signing key that was made for a subscription; `expires_at` is epoch ms."""

    secret: str
    expires_at: int | None = None


class KeptSubscription(msgspec.Struct, frozen=True):
    """One subscription as it is stored, sealed. `spec` is as its user wrote it; `keys` are the newest first."""

    uid: str
    namespace: str
    name: str
    generation: int
    spec: dict[str, Any]
    keys: tuple[GeneratedKey, ...] = ()

    def __repr__(self) -> str:
        return f"KeptSubscription({self.uid})"


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that is kept by REST, as of one version; secrets by name, then by key."""

    version: int = 0
    subscriptions: Mapping[str, KeptSubscription] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def named(self, namespace: str, name: str) -> KeptSubscription | None:
        """The subscription of this name."""
        found = (kept for kept in self.subscriptions.values() if (kept.namespace, kept.name) == (namespace, name))
        return next(found, None)


def entry_of(kept: KeptSubscription, secrets: Mapping[str, Mapping[str, str]], policy: EgressPolicy) -> Entry:
    """The entry that the dispatcher works from. Raises InvalidInput with the field of the request's body."""
    spec = parse_subscription(kept.spec, prefix="spec.")

    def read(name: str) -> Mapping[str, bytes] | None:
        found = secrets.get(name)
        return None if found is None else {key: value.encode() for key, value in found.items()}

    identity = Identity(kept.uid, kept.generation, kept.namespace, kept.name, "api")
    entry = resolve(identity, spec, read, policy, _newest(kept), prefix="spec.")
    if spec.signing.keys:
        return entry
    keys = tuple(
        SigningKey(algorithm="HMAC", secret=SecretStr(key.secret), expires_at=key.expires_at) for key in kept.keys
    )
    return entry.model_copy(update={"signing_keys": keys})


def _newest(kept: KeptSubscription) -> Callable[[Identity], str]:
    def newest(_: Identity) -> str:
        if not kept.keys:
            raise InvalidInput(Reason.INVALID_SECRET, "spec.signing.keys", "no key was generated")
        return kept.keys[0].secret

    return newest
