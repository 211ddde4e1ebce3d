"""Lanes and deliveries in Redis: what a dispatcher does to them, always in whole scripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

import msgspec
from redis.asyncio import Redis

from hookcast_app.delivery.models import Record, State
from hookcast_app.events import Stored
from hookcast_app.redis import Keys, Partitions, Script, translated

_turn = Script("hookcast_app.delivery", "turn.lua")
_load = Script("hookcast_app.delivery", "load.lua")
_unmarked = Script("hookcast_app.redis", "unmarked.lua")
_share = Script("hookcast_app.delivery", "share.lua")
_due = Script("hookcast_app.delivery", "due.lua")
_backlog = Script("hookcast_app.delivery", "backlog.lua")

FAR = 10**13
"""A horizon in ms beyond every delay."""
ALL = -1
"""A limit that is none."""
BELIEVED_MS = 5_000
"""A dispatcher that has not told how many lanes it holds for so long is not there."""

Mode = Literal["take", "hold", "release", "park"]
ScriptOutcome = Literal["delivered", "dead", "discarded", "later", "held", "missing"]

_decode_stored = msgspec.json.Decoder(Stored).decode
_encode = msgspec.json.Encoder().encode


class Result(NamedTuple):
    """How one delivery is to be settled; `record` None leaves what is stored."""

    entry: bytes
    ref: str
    outcome: ScriptOutcome
    delay_ms: int
    record: Record


@dataclass(slots=True)
class Turn:
    """One lane's part of a turn: what to settle, then how much to fetch after which entry of its stream."""

    uid: str
    mode: Mode
    after: bytes = b"-"
    want: int = 0
    park_ms: int = 0
    horizon_ms: int = 0
    failing: bytes = b""
    """What to remember of an endpoint that fails: empty leaves it as it is, "-" forgets it."""
    results: Sequence[Result] = field(default_factory=tuple)
    until_ms: int | None = None
    """Entries of this time and later are not read."""


class Fetched(NamedTuple):
    """A turn's answer: the lane is ours.

    When something becomes due (ms), what is remembered of the lane, how many deliveries it has that have not ended, and
    what comes next in its stream.
    """

    due_ms: int | None
    disabled: bytes
    failing: bytes
    backlog: int
    entries: list[tuple[bytes, str]]


class Loaded(NamedTuple):
    """A delivery with all that an attempt needs."""

    entry: bytes
    ref: str
    event: Stored
    body: bytes
    record: Record
    cancelled: bool = False


class Share(NamedTuple):
    """How many dispatchers there are, and how many lanes all of them hold together."""

    dispatchers: int
    lanes: int


class Depth(NamedTuple):
    """How many deliveries a lane has, and since when (epoch ms) the first of those waiting is due."""

    waiting: int
    later: int
    due_since: int | None


class LaneStore:
    """A dispatcher's side of the lanes of one partition; lives as long as the app."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        token: str,
        lease_seconds: float,
        retention_seconds: int,
        dead_letter_retention_seconds: int,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """`epoch` says how often the layout is known to have changed."""
        self._epoch = epoch
        self._redis = redis
        self._keys = keys
        self._token = token
        self._head = (token, int(lease_seconds * 1000), retention_seconds, dead_letter_retention_seconds, keys.wake)

    async def turn(self, turns: Sequence[Turn]) -> list[Fetched | None]:
        """Carries out the turns of different lanes in one script; None where another dispatcher holds the lane.

        Raises Unavailable: what was settled is then unknown, and the same turn may be tried again.
        """
        keys = [self._keys.ring, self._keys.hungry, self._keys.disabled, self._keys.failing]
        keys += [self._keys.buried, self._keys.mark, self._keys.switches]
        args: list[str | bytes | int] = [*self._head, len(turns), self._epoch()]
        for turn in turns:
            keys += [self._keys.lane(turn.uid, "lease"), *self._keys.places(turn.uid)]
            keys += [self._keys.event(result.ref) for result in turn.results]
            args += (turn.uid, turn.mode, turn.park_ms, turn.after, turn.want, turn.horizon_ms)
            until = "+" if turn.until_ms is None else f"({turn.until_ms}-0"
            args += (turn.failing, until, len(turn.results))
            for result in turn.results:
                args += (result.entry, result.ref, result.outcome, result.delay_ms, _encode(result.record))
        with translated("turn"):
            answers = await _turn(self._redis, keys, args)
        return [_fetched(answer) for answer in answers]

    async def load(self, wanted: Sequence[tuple[str, bytes, str]]) -> list[Loaded | None]:
        """The deliveries (lane's UID, stream entry, ref), or None for those whose event is gone."""
        keys = [self._keys.event(ref) for _, _, ref in wanted]
        with translated("load"):
            found = await _load(self._redis, keys, [uid for uid, _, _ in wanted])
        return [
            Loaded(entry, ref, _decode_stored(stored), body, State.of(value).record, cancelled is not None)
            if stored is not None and body is not None
            else None
            for (_, entry, ref), (stored, body, value, cancelled) in zip(wanted, found, strict=True)
        ]

    async def share(self, held: int) -> Share:
        """Tells how many lanes this dispatcher holds, and learns how many there are of both."""
        return await self._share(str(held))

    async def unshare(self) -> None:
        """Tells that this dispatcher takes no more lanes."""
        await self._share("")

    async def _share(self, held: str) -> Share:
        keys = [self._keys.mark, self._keys.dispatchers]
        with translated("share lanes"):
            dispatchers, lanes = await _share(self._redis, keys, [self._token, held, BELIEVED_MS])
        return Share(dispatchers, lanes)

    async def due(self, limit: int, horizon_ms: int = 0) -> list[str]:
        """Lanes that want attention within `horizon_ms`, the longest waiting first."""
        with translated("due"):
            lanes: list[bytes] = await _due(self._redis, [self._keys.ring], [horizon_ms, limit])
        return [uid.decode() for uid in lanes]

    async def depths(self, uids: Sequence[str]) -> list[Depth]:
        """How much is in these lanes."""
        keys = [self._keys.lane(uid, part) for uid in uids for part in ("waiting", "later")]
        with translated("look at lanes"):
            found: list[int] = await _backlog(self._redis, keys, [])
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [Depth(waiting, later, since if since >= 0 else None) for waiting, later, since in triples]


class DisabledStore:
    """Which subscriptions are disabled: every partition knows it for its own lanes. Raises Unavailable."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    async def disable(self, uid: str, state: bytes) -> None:
        """Remembers that a subscription is disabled, and why; `state` is opaque here."""
        for redis, keys in self._partitions.all:
            with translated("disable"):
                await _unmarked(redis, [keys.mark, keys.disabled], ["HSET", uid, state])

    async def spread(self) -> None:
        """Has every partition know what any of them does: there are new ones, or one came back empty."""
        found: dict[bytes, bytes] = {}
        for redis, keys in self._partitions.all:
            with translated("look for disabled subscriptions"):
                found |= cast("dict[bytes, bytes]", await redis.hgetall(keys.disabled))
        for redis, keys in self._partitions.all:
            for uid, state in found.items():
                with translated("disable"):
                    await _unmarked(redis, [keys.mark, keys.disabled], ["HSETNX", uid, state])

    async def enable(self, uid: str) -> None:
        """Forgets that a subscription was disabled, and what is known of its endpoint, and wakes its lanes."""
        for redis, keys in self._partitions.all:
            with translated("enable"):
                for key in (keys.disabled, keys.failing):
                    await _unmarked(redis, [keys.mark, key], ["HDEL", uid])
                await _unmarked(redis, [keys.mark, keys.ring], ["ZADD", "XX", "0", uid])
                await redis.publish(keys.wake, uid)


def _fetched(answer: list[object]) -> Fetched | None:
    match answer:
        case [1, int(due), bytes(disabled), bytes(failing), int(backlog), list(flat)]:
            entries = [(entry, ref.decode()) for entry, ref in zip(flat[::2], flat[1::2], strict=True)]
            return Fetched(due if due >= 0 else None, disabled, failing, backlog, entries)
    return None
