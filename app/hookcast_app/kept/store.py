"""Subscriptions and secrets that are kept by REST, in Redis, encrypted: whoever reads Redis reads none of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from redis.asyncio import Redis

from hookcast_app.kept.models import Kept, KeptSubscription
from hookcast_app.redis import Keys, Script, translated

_change = Script("hookcast_app.kept", "change.lua")


class Change(NamedTuple):
    """One value to be stored under a UID or a secret's name, or (None) to be deleted."""

    what: str
    field: str
    value: object


class Read(NamedTuple):
    """What is stored; what could not be opened, by UID or name; and whether all of it is sealed with the newest key."""

    kept: Kept
    closed: tuple[str, ...]
    closed_uids: frozenset[str]
    is_current: bool
    sealed: dict[str, dict[bytes, bytes]]


class KeptStore:
    """Lives as long as the app. `keys` are Fernet keys, newest first; without any, nothing can be kept."""

    def __init__(self, redis: Redis, keys: Keys, encryption_keys: Sequence[str]) -> None:
        self._redis = redis
        self._keys = keys
        fernets = [Fernet(key) for key in encryption_keys]
        self._fernet = MultiFernet(fernets) if fernets else None
        self._newest = fernets[0] if fernets else None
        self._values: dict[str, dict[bytes, bytes]] = {}

    @property
    def can_keep(self) -> bool:
        """Whether there is a key to encrypt with."""
        return self._fernet is not None

    @property
    def channel(self) -> str:
        """Where changes are told."""
        return f"{self._keys.prefix}kept"

    async def read(self) -> Read:
        """Everything. Raises Unavailable."""
        names = self._keys
        pipeline = self._redis.pipeline()
        pipeline.get(names.kept("version"))
        pipeline.hgetall(names.kept("subscriptions"))
        pipeline.hgetall(names.kept("secrets"))
        with translated("read what is kept"):
            version, subscriptions, secrets = await pipeline.execute()
        closed: list[str] = []
        found: dict[str, KeptSubscription] = {}
        read: dict[str, Mapping[str, str]] = {}
        for field, value in cast("dict[bytes, bytes]", subscriptions).items():
            content = self._open(value)
            if content is None:
                closed.append(f"subscription {field.decode()}")
            else:
                found[field.decode()] = msgspec.json.decode(content, type=KeptSubscription)
        for field, value in cast("dict[bytes, bytes]", secrets).items():
            content = self._open(value)
            if content is None:
                closed.append(f"secret {field.decode()}")
            else:
                read[field.decode()] = msgspec.json.decode(content, type=dict[str, str])
        values = [*subscriptions.values(), *secrets.values()]
        kept = Kept(int(version or 0), found, read)
        uids = frozenset(field.decode() for field in subscriptions) - found.keys()
        sealed = {"subscriptions": subscriptions, "secrets": secrets}
        return Read(kept, tuple(closed), uids, all(map(self._is_newest, values)), sealed)

    def remember(self, read: Read) -> None:
        """What would be written again to a Redis that came back empty."""
        self._values = read.sealed

    async def change(self, version: int, changes: Sequence[Change]) -> int | None:
        """Makes changes to what is stored at `version`; the new one, or None if it is another one already."""
        assert self._fernet is not None, "whoever changes something has asked can_keep"  # noqa: S101
        args: list[str | bytes] = [str(version), self.channel]
        for change in changes:
            sealed = b"" if change.value is None else self._fernet.encrypt(msgspec.json.encode(change.value))
            args += (change.what, change.field, sealed)
        names = self._keys
        keys = [names.mark, names.kept("version"), names.kept("subscriptions"), names.kept("secrets")]
        with translated("keep a change"):
            return int(await _change(self._redis, keys, args)) or None

    async def restore(self, version: int) -> None:
        """Writes again what was remembered last, to a Redis that came back empty; the version goes on from there."""
        with translated("restore what is kept"):
            if int(await self._redis.get(self._keys.kept("version")) or 0) >= version:
                return
            pipeline = self._redis.pipeline()
            for name, values in self._values.items():
                for field, value in values.items():
                    pipeline.hset(self._keys.kept(name), field.decode(), value.decode())
            pipeline.set(self._keys.kept("version"), version)
            await pipeline.execute()

    def _open(self, value: bytes) -> bytes | None:
        try:
            return None if self._fernet is None else self._fernet.decrypt(value)
        except InvalidToken:
            return None

    def _is_newest(self, value: bytes) -> bool:
        try:
            return self._newest is not None and bool(self._newest.extract_timestamp(value))
        except InvalidToken:
            return False
