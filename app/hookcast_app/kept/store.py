"""Subscriptions and secrets that are kept by REST, in Redis, encrypted: whoever reads Redis reads none of them.

`kept:changes` remembers of the last changes, by version, a token and what was changed, so that whoever knows a version
reads what changed since, and nothing else. The token tells two histories apart that reached the same version, which
happens when a Redis comes back empty.
"""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import NamedTuple, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from redis.asyncio import Redis

from hookcast_app.kept.models import Address
from hookcast_app.redis import Keys, Script, translated
from hookcast_core.errors import Unavailable

_change = Script("hookcast_app.kept", "change.lua")
_news = Script("hookcast_app.kept", "news.lua")
REMEMBERED = 256
"""Changes that can be told one by one; who missed more reads everything."""
BATCH = 64
"""Values that are read or written at once: a secret may have 175 KB when it is sealed."""
TRIES = 20


class State(NamedTuple):
    """Which change made what is stored, or what a process knows."""

    version: int = -1
    token: bytes = b""


class News(NamedTuple):
    """What is stored otherwise than the caller knows it, sealed; None is deleted. `state` is what it leads to."""

    state: State
    values: Mapping[Address, bytes | None]


class KeptStore:
    """Lives as long as the app. `keys` are Fernet keys, newest first; without any, nothing can be kept."""

    def __init__(self, redis: Redis, keys: Keys, encryption_keys: Sequence[str]) -> None:
        self._redis = redis
        self._version, self._changes = keys.kept("version"), keys.kept("changes")
        self._hashes = {what: keys.kept(what) for what in ("subscriptions", "secrets")}
        self._mark = keys.mark
        self.channel = f"{keys.prefix}kept"
        """Where changes are told."""
        fernets = [Fernet(key) for key in encryption_keys]
        self._fernet = MultiFernet(fernets) if fernets else None
        self._newest = fernets[0] if fernets else None

    @property
    def can_keep(self) -> bool:
        """Whether there is a key to encrypt with."""
        return self._fernet is not None

    async def news(self, known: State, sealed: Mapping[Address, bytes]) -> News:
        """What changed since `known`, at which `sealed` was stored. Raises Unavailable.

        A version below the known one means that Redis came back empty: nothing is told then.
        """
        state, values = await self._since(known)
        if values is not None:
            return News(state, values)
        for _ in range(TRIES):
            if state.version < known.version:
                return News(state, {})
            found = await self._differing(sealed)
            # What was changed while it was read is told one by one.
            state, later = await self._since(state)
            if later is not None:
                return News(state, found | later)
        raise Unavailable("what is kept changes faster than it can be read; try again")

    async def change(self, version: int, values: Mapping[Address, bytes | None]) -> State | None:
        """Stores sealed values, or (None) deletes; None if what is stored is at another version already."""
        token = token_hex(8)
        args: list[str | bytes | int] = [version, self.channel, token, REMEMBERED]
        for (what, field), value in values.items():
            args += (what, field, value or b"")
        keys = [self._mark, self._version, *self._hashes.values(), self._changes]
        with translated("keep a change"):
            made = int(await _change(self._redis, keys, args))
        return State(made, token.encode()) if made else None

    async def restore(self, version: int, sealed: Mapping[Address, bytes]) -> None:
        """Writes all of it to a Redis that came back empty; the version, which is written last, goes on from there.

        Until then whoever knows a version sees an older one, and does the same.
        """
        with translated("restore what is kept"):
            if int(await self._redis.get(self._version) or 0) >= version:
                return
            for what, name in self._hashes.items():
                of_this = {field: value for (each, field), value in sealed.items() if each == what}
                fields = list(of_this)
                for start in range(0, len(fields), BATCH):
                    pipeline = self._redis.pipeline(transaction=False)
                    for field in fields[start : start + BATCH]:
                        pipeline.hset(name, field, of_this[field])
                    await pipeline.execute()
            await self._redis.set(self._version, version)

    def seal(self, content: bytes) -> bytes:
        """Encrypted with the newest key."""
        assert self._newest is not None, "whoever changes something has asked can_keep"  # noqa: S101
        return self._newest.encrypt(content)

    def open(self, sealed: bytes) -> tuple[bytes | None, bool]:
        """What was sealed, or None without its key; and whether the newest key sealed it."""
        try:
            if self._newest is not None:
                return self._newest.decrypt(sealed), True
        except InvalidToken:
            pass
        try:
            return (self._fernet.decrypt(sealed) if self._fernet else None), False
        except InvalidToken:
            return None, False

    async def _since(self, known: State) -> tuple[State, dict[Address, bytes | None] | None]:
        keys = [self._version, *self._hashes.values(), self._changes]
        with translated("read what is kept"):
            version, token, found = await _news(self._redis, keys, [known.version, known.token, BATCH])
        state = State(version, token)
        if found == 0:
            return state, None
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return state, {(what.decode(), field.decode()): value or None for what, field, value in triples}

    async def _differing(self, sealed: Mapping[Address, bytes]) -> dict[Address, bytes | None]:
        """Everything that is stored otherwise, read piece by piece: no moment of the whole."""
        found: dict[Address, bytes | None] = {}
        missing = set(sealed)
        for what, name in self._hashes.items():
            cursor = 0
            while True:
                with translated("read what is kept"):
                    cursor, values = await self._redis.hscan(name, cursor, count=BATCH)
                for field, value in cast("dict[bytes, bytes]", values).items():
                    address = (what, field.decode())
                    missing.discard(address)
                    if sealed.get(address) != value:
                        found[address] = value
                    else:
                        found.pop(address, None)
                if cursor == 0:
                    break
        return found | dict.fromkeys(missing)
