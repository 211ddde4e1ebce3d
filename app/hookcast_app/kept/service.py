"""Subscriptions and secrets by REST: what is wanted is checked as a whole, stored encrypted, and in force everywhere.

Every change names the version that it is made to, so that processes which change something at the same time come one
after the other, and each is checked against what the others did.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.events import uuid7
from hookcast_app.kept.models import (
    MAX_SECRETS,
    MAX_SUBSCRIPTIONS,
    GeneratedKey,
    Kept,
    KeptSubscription,
    entry_of,
)
from hookcast_app.kept.store import Change, KeptStore
from hookcast_core.configuration import Entry
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason, Unavailable
from hookcast_core.signing import generate_secret

_log = structlog.get_logger("hookcast.subscriptions")
LOOK_SECONDS = 10.0
"""How often what is kept is read without being told of a change."""
BACK_OFF_SECONDS = 0.5
TRIES = 20
OVERLAP_MS = 86_400_000
"""How long a key that was replaced signs along: a day."""
MAX_KEYS = 10


class KeptSubscriptions:
    """Lives as long as the app; `run` is its one task."""

    def __init__(
        self,
        store: KeptStore,
        configuration: CurrentConfiguration,
        policy: EgressPolicy,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._policy = policy
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._problems: tuple[str, ...] = ()
        self._closed = False
        self._one_at_a_time = asyncio.Lock()
        self.kept = Kept()

    async def load(self) -> None:
        """Reads everything and puts it in force. Raises Unavailable."""
        read = await self._store.read()
        if read.kept.version < self.kept.version:
            # Redis came back empty: what is known here is what is kept.
            await self._store.restore(self.kept.version)
            return
        self._store.remember(read)
        if read.kept == self.kept and not read.closed and self._configuration.has_kept:
            return
        entries, problems = self._resolved(read.kept)
        self._closed = bool(read.closed)
        if read.closed:
            # Another process may have sealed them with a key that this one is still to get: they stay as they were.
            entries = {uid: entry for uid, entry in self._entries.items() if uid in read.closed_uids} | entries
            names = ", ".join(read.closed[:5])
            problems.append(f"{len(read.closed)} kept by REST cannot be opened with HOOKCAST_ENCRYPTION_KEYS: {names}")
        for problem in problems:
            if problem not in self._problems:
                _log.error("kept subscription refused", problem=problem)
        self.kept, self._entries, self._problems = read.kept, entries, tuple(problems)
        self._configuration.keep(tuple(entries.values()), self._problems)
        if not read.is_current and not read.closed and self._store.can_keep:
            await self._seal_anew()

    async def run(self, redis: Redis) -> None:
        """Follows changes until cancelled, through every absence of Redis."""
        while True:
            try:
                async with redis.pubsub() as told:
                    await told.subscribe(self._store.channel)
                    while True:
                        await self.load()
                        await told.get_message(ignore_subscribe_messages=True, timeout=LOOK_SECONDS)
            except (Unavailable, RedisError, OSError) as error:
                _log.debug("kept.unavailable", problem=str(error))
            await asyncio.sleep(BACK_OFF_SECONDS)

    async def restore(self) -> None:
        """Redis came back empty: writes again what is known. Raises Unavailable."""
        await self._store.restore(self.kept.version)

    # Subscriptions

    async def create(self, namespace: str, name: str, spec: dict[str, Any]) -> tuple[KeptSubscription, str | None]:
        """A new subscription, and the key that was generated for it, if one was. Raises InvalidInput, Unavailable."""
        key = None if _names_keys(spec) else GeneratedKey(generate_secret())
        made = KeptSubscription(uuid7(), namespace, name, 1, spec, (key,) if key else ())

        def change(kept: Kept) -> KeptSubscription:
            if len(kept.subscriptions) >= MAX_SUBSCRIPTIONS:
                raise InvalidInput(Reason.LIMIT_EXCEEDED, None, f"at most {MAX_SUBSCRIPTIONS} subscriptions are kept")
            if kept.named(namespace, name) or self._is_taken(namespace, name):
                raise InvalidInput(Reason.CONFLICT, "name", f"{namespace}/{name} exists already; choose another name")
            return made

        return await self._put(change), key.secret if key else None

    async def replace(
        self, uid: str, spec: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> tuple[KeptSubscription, str | None]:
        """Another specification, made from the one of now; and the key that had to be generated for it, if one had."""
        generated: list[str] = []

        def change(kept: Kept) -> KeptSubscription:
            before = self._mine(kept, uid)
            wanted = spec(before.spec)
            generated.clear()
            keys = before.keys
            if not keys and not _names_keys(wanted):
                keys = (GeneratedKey(generate_secret()),)
                generated.append(keys[0].secret)
            return KeptSubscription(uid, before.namespace, before.name, before.generation + 1, wanted, keys)

        made = await self._put(change)
        return made, generated[0] if generated else None

    async def rotate(self, uid: str, overlap_ms: int = OVERLAP_MS) -> str:
        """A new generated key, which signs at once; those of before sign along for `overlap_ms`."""
        key = GeneratedKey(generate_secret())

        def change(kept: Kept) -> KeptSubscription:
            before = self._mine(kept, uid)
            if _names_keys(before.spec):
                detail = "this subscription names its keys; put the new one before the old one in signing.keys"
                raise InvalidInput(Reason.CONFLICT, "spec.signing.keys", detail)
            now = self._clock()
            until = now + overlap_ms
            older = [
                GeneratedKey(old.secret, until if old.expires_at is None else min(old.expires_at, until))
                for old in before.keys
                if old.expires_at is None or old.expires_at > now
            ]
            if len(older) >= MAX_KEYS:
                raise InvalidInput(Reason.LIMIT_EXCEEDED, None, f"{MAX_KEYS} keys are in force; wait for one to expire")
            keys = (key, *older)
            return KeptSubscription(uid, before.namespace, before.name, before.generation + 1, before.spec, keys)

        await self._put(change)
        return key.secret

    async def delete(self, uid: str) -> None:
        """Deletes a subscription; what waits for it is discarded. Raises InvalidInput, Unavailable."""

        def changes(kept: Kept) -> Sequence[Change]:
            self._mine(kept, uid)
            return [Change("subscriptions", uid, None)]

        await self._change(changes)

    # Secrets

    async def put_secret(self, name: str, values: Mapping[str, str]) -> None:
        """Stores a secret's values by key; every subscription that names it must still hold with them."""

        def changes(kept: Kept) -> Sequence[Change]:
            if name not in kept.secrets and len(kept.secrets) >= MAX_SECRETS:
                raise InvalidInput(Reason.LIMIT_EXCEEDED, None, f"at most {MAX_SECRETS} secrets are kept")
            self._must_hold(Kept(0, kept.subscriptions, {**kept.secrets, name: values}), kept)
            return [Change("secrets", name, dict(values))]

        await self._change(changes)

    async def delete_secret(self, name: str) -> None:
        """Deletes a secret that no subscription needs."""

        def changes(kept: Kept) -> Sequence[Change]:
            if name not in kept.secrets:
                raise InvalidInput(Reason.NOT_FOUND, "secret", "no secret of this name is kept")
            others = {other: values for other, values in kept.secrets.items() if other != name}
            self._must_hold(Kept(0, kept.subscriptions, others), kept)
            return [Change("secrets", name, None)]

        await self._change(changes)

    # How

    async def _put(self, make: Callable[[Kept], KeptSubscription]) -> KeptSubscription:
        made: list[KeptSubscription] = []

        def changes(kept: Kept) -> Sequence[Change]:
            one = make(kept)
            entry_of(one, kept.secrets, self._policy)
            made[:] = [one]
            return [Change("subscriptions", one.uid, one)]

        await self._change(changes)
        return made[0]

    async def _change(self, changes: Callable[[Kept], Sequence[Change]]) -> None:
        """Makes changes to what is kept now, and has them in force here when it returns."""
        if not self._store.can_keep:
            detail = "is not set: nothing can be kept encrypted. Set it to a Fernet key"
            raise InvalidInput(Reason.CONFLICT, "encryption_keys", detail)
        async with self._one_at_a_time:
            for _ in range(TRIES):
                await self.load()
                if self._closed:
                    detail = "does not hold every key that something kept was sealed with: nothing can be changed"
                    raise InvalidInput(Reason.CONFLICT, "encryption_keys", detail)
                if await self._store.change(self.kept.version, changes(self.kept)) is not None:
                    await self.load()
                    return
        raise Unavailable("too many changes at the same time; try again")

    async def _seal_anew(self) -> None:
        """After a rotation of the encryption keys: the older one may be taken away then."""
        kept = self.kept
        everything = [
            *(Change("subscriptions", uid, one) for uid, one in kept.subscriptions.items()),
            *(Change("secrets", name, dict(values)) for name, values in kept.secrets.items()),
        ]
        if await self._store.change(kept.version, everything) is not None:
            _log.info("kept.sealed_anew", subscriptions=len(kept.subscriptions), secrets=len(kept.secrets))

    def _resolved(self, kept: Kept) -> tuple[dict[str, Entry], list[str]]:
        entries: dict[str, Entry] = {}
        problems: list[str] = []
        for uid, one in kept.subscriptions.items():
            try:
                entries[uid] = entry_of(one, kept.secrets, self._policy)
            except InvalidInput as error:
                problems.append(f"{one.namespace}/{one.name}: {error} ({error.reason})")
                if uid in self._entries:
                    entries[uid] = self._entries[uid]
        return entries, problems

    def _must_hold(self, wanted: Kept, before: Kept) -> None:
        for one in before.subscriptions.values():
            try:
                entry_of(one, wanted.secrets, self._policy)
            except InvalidInput as error:
                if not self._holds(one, before):
                    continue
                detail = f"the subscription {one.namespace}/{one.name} would not hold: {error}"
                raise InvalidInput(Reason.CONFLICT, "secret", detail) from None

    def _holds(self, one: KeptSubscription, kept: Kept) -> bool:
        try:
            entry_of(one, kept.secrets, self._policy)
        except InvalidInput:
            return False
        return True

    def _mine(self, kept: Kept, uid: str) -> KeptSubscription:
        found = kept.subscriptions.get(uid)
        if found is not None:
            return found
        entry = self._configuration.entry(uid)
        where = "in Kubernetes; change the object there" if entry.source == "kubernetes" else "in a file; change that"
        raise InvalidInput(Reason.READ_ONLY, "subscription", f"{entry.namespace}/{entry.name} is kept {where}")

    def _is_taken(self, namespace: str, name: str) -> bool:
        entries = self._configuration.entries.values()
        return any((entry.namespace, entry.name) == (namespace, name) for entry in entries)


def _names_keys(spec: Mapping[str, Any]) -> bool:
    signing = spec.get("signing")
    return isinstance(signing, dict) and bool(signing.get("keys"))
