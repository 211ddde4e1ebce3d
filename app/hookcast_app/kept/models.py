"""What users keep by REST: subscriptions and secrets, and how they become entries of the configuration. Pure."""

from collections.abc import Callable, Iterable, Mapping
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


Value = KeptSubscription | Mapping[str, str]
Address = tuple[str, str]
"""Where something is kept: "subscriptions" and a UID, or "secrets" and a name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that is kept by REST; secrets by name, then by key."""

    subscriptions: dict[str, KeptSubscription] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    uids: dict[tuple[str, str], str] = field(default_factory=dict)
    """By namespace and name."""
    users: dict[str, frozenset[str]] = field(default_factory=dict)
    """By a secret's name the UIDs of the subscriptions that name it."""

    def named(self, namespace: str, name: str) -> KeptSubscription | None:
        """The subscription of this name."""
        uid = self.uids.get((namespace, name))
        return None if uid is None else self.subscriptions[uid]

    def get(self, address: Address) -> Value | None:
        """What is kept there."""
        what, name = address
        return self.subscriptions.get(name) if what == "subscriptions" else self.secrets.get(name)

    def changed(self, changes: Mapping[Address, Value | None]) -> "Kept":
        """With these values put, or (None) taken away. Costs the changes, and a copy of the outermost dicts."""
        made = Kept(self.subscriptions.copy(), self.secrets.copy(), self.uids.copy(), self.users.copy())
        touched: dict[str, set[str]] = {}
        for address, value in changes.items():
            before = made.get(address)
            made._put(address, before, value)
            for one in (before, value):
                if isinstance(one, KeptSubscription):
                    for secret in secrets_of(one.spec):
                        touched.setdefault(secret, set()).add(one.uid)
        for secret, uids in touched.items():
            now = {
                uid for uid in uids if uid in made.subscriptions and secret in secrets_of(made.subscriptions[uid].spec)
            }
            made.users[secret] = self.users.get(secret, frozenset()) - uids | now
            if not made.users[secret]:
                del made.users[secret]
        return made

    def affected(self, changes: Iterable[Address]) -> list[str]:
        """The UIDs of subscriptions that are another thing after these changes, each once."""
        found: dict[str, None] = {}
        for what, name in changes:
            found |= {name: None} if what == "subscriptions" else dict.fromkeys(sorted(self.users.get(name, ())))
        return list(found)

    def _put(self, address: Address, before: Value | None, value: Value | None) -> None:
        name = address[1]
        if isinstance(before, KeptSubscription) and self.uids.get((before.namespace, before.name)) == name:
            del self.uids[before.namespace, before.name]
        if isinstance(value, KeptSubscription):
            self.subscriptions[name] = value
            self.uids[value.namespace, value.name] = name
        elif value is not None:
            self.secrets[name] = value
        else:
            (self.subscriptions if address[0] == "subscriptions" else self.secrets).pop(name, None)


def secrets_of(spec: object) -> set[str]:
    """The names of all secrets that a specification may refer to, whether or not it holds: `<what>Ref: {name: …}`."""
    found: set[str] = set()
    waiting = [spec]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if key.endswith(("Ref", "_ref")) and isinstance(inner, dict) and isinstance(inner.get("name"), str):
                    found.add(inner["name"])
                waiting.append(inner)
        elif isinstance(value, list):
            waiting += value
    return found


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
