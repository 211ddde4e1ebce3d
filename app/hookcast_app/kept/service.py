"""Subscriptions and secrets by REST: what is wanted is checked as a whole, stored encrypted, and in force everywhere.

Every change names the version that it is made to, so that processes which change something at the same time come one
after the other, and each is checked against what the others did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.events import uuid7
from hookcast_app.kept.models import (
    MAX_SECRETS,
    MAX_SUBSCRIPTIONS,
    Address,
    GeneratedKey,
    Kept,
    KeptSubscription,
    Value,
    entry_of,
)
from hookcast_app.kept.pause import Pause
from hookcast_app.kept.state import KeptState
from hookcast_app.kept.store import KeptStore
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
        self._pause = Pause()
        self._state = KeptState(store, configuration, policy, self._pause)
        self._one_at_a_time = asyncio.Lock()
        self._not_sealed: str | None = None

    @property
    def kept(self) -> Kept:
        """What is kept, as this process knows it."""
        return self._state.kept

    async def load(self) -> None:
        """Reads what changed, and puts it in force. Raises Unavailable."""
        async with self._one_at_a_time:
            await self._state.load()
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
        async with self._one_at_a_time:
            await self._state.restore()

    # Subscriptions

    async def create(self, namespace: str, name: str, spec: dict[str, Any]) -> tuple[KeptSubscription, str | None]:
        """A new subscription, and the key that was generated for it, if one was. Raises InvalidInput, Unavailable."""
        key = None if _names_keys(spec) else GeneratedKey(generate_secret())
        made = KeptSubscription(uuid7(), namespace, name, 1, spec, (key,) if key else ())

        def change(kept: Kept) -> KeptSubscription:
            if len(kept.subscriptions) >= MAX_SUBSCRIPTIONS:
                raise InvalidInput(Reason.LIMIT_EXCEEDED, None, f"at most {MAX_SUBSCRIPTIONS} subscriptions are kept")
            if kept.named(namespace, name) or self._configuration.is_named(namespace, name):
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

        async def changes(kept: Kept) -> Mapping[Address, Value | None]:
            self._mine(kept, uid)
            return {("subscriptions", uid): None}

        await self._change(changes)

    # Secrets

    async def put_secret(self, name: str, values: Mapping[str, str]) -> None:
        """Stores a secret's values by key; every subscription that names it must still hold with them."""

        async def changes(kept: Kept) -> Mapping[Address, Value | None]:
            if name not in kept.secrets and len(kept.secrets) >= MAX_SECRETS:
                raise InvalidInput(Reason.LIMIT_EXCEEDED, None, f"at most {MAX_SECRETS} secrets are kept")
            wanted: Mapping[Address, Value | None] = {("secrets", name): dict(values)}
            await self._must_hold(wanted, kept)
            return wanted

        await self._change(changes)

    async def delete_secret(self, name: str) -> None:
        """Deletes a secret that no subscription needs."""

        async def changes(kept: Kept) -> Mapping[Address, Value | None]:
            if name not in kept.secrets:
                raise InvalidInput(Reason.NOT_FOUND, "secret", "no secret of this name is kept")
            wanted: Mapping[Address, Value | None] = {("secrets", name): None}
            await self._must_hold(wanted, kept)
            return wanted

        await self._change(changes)

    # How

    async def _put(self, make: Callable[[Kept], KeptSubscription]) -> KeptSubscription:
        made: list[KeptSubscription] = []

        async def changes(kept: Kept) -> Mapping[Address, Value | None]:
            one = make(kept)
            entry_of(one, kept.secrets, self._policy)
            made[:] = [one]
            return {("subscriptions", one.uid): one}

        await self._change(changes)
        return made[0]

    async def _change(self, changes: Callable[[Kept], Awaitable[Mapping[Address, Value | None]]]) -> None:
        """Makes changes to what is kept now, and has them in force here when it returns."""
        if not self._store.can_keep:
            detail = "is not set: nothing can be kept encrypted. Set it to a Fernet key"
            raise InvalidInput(Reason.CONFLICT, "encryption_keys", detail)
        async with self._one_at_a_time:
            for _ in range(TRIES):
                await self._state.load()
                if self._state.is_closed:
                    detail = "does not hold every key that something kept was sealed with: nothing can be changed"
                    raise InvalidInput(Reason.CONFLICT, "encryption_keys", detail)
                if await self._state.change(await changes(self.kept)):
                    return
        raise Unavailable("too many changes at the same time; try again")

    async def _seal_anew(self) -> None:
        """What older keys sealed, if anything; a Redis that cannot take it now is no reason to end, nor to wait."""
        try:
            while self._state.is_to_be_sealed_anew:
                async with self._one_at_a_time:
                    await self._state.seal_some_anew()
        except Unavailable as error:
            if error.detail != self._not_sealed:
                _log.warning("kept.not_sealed_anew", problem=error.detail)
            self._not_sealed = error.detail

    async def _must_hold(self, changes: Mapping[Address, Value | None], before: Kept) -> None:
        wanted = before.changed(changes)
        for uid in before.affected(changes):
            await self._pause()
            one = before.subscriptions[uid]
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


def _names_keys(spec: Mapping[str, Any]) -> bool:
    signing = spec.get("signing")
    return isinstance(signing, dict) and bool(signing.get("keys"))
