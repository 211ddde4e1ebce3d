"""Clears a target, copies all of Hookcast's keys to it, and compares the two: what a migration does in bulk."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, cast

from redis.asyncio import Redis

from hookcast_app.migration.plan import SOURCE, Found, refused
from hookcast_app.migration.values import Piece, arguments, is_kept, piece
from hookcast_app.redis import Keys, Mark, Script, check_fit, translated
from hookcast_core.errors import HookcastError

BATCH_KEYS = 200
BATCH_BYTES = 4_194_304
PIECE_ITEMS = 5_000
"""Bounds of one script call."""
NO_BOUND = 2**52
"""Where what was read from the source bounds what is read from the target."""

Progress = Callable[[str, int], None]
"""Is told what is done to keys, and to how many so far."""

_read = Script("hookcast_app.migration", "read.lua")
_write = Script("hookcast_app.migration", "write.lua")
_clear = Script("hookcast_app.migration", "clear.lua")
_KEYS = Keys()
_OF_A_SERVER = frozenset(key.encode() for key in (_KEYS.mark, _KEYS.dispatchers, _KEYS.alive))
"""Keys that are no data."""
_OF_CHANNELS = f"{_KEYS.prefix}channel:".encode()
"""What is kept of channels stays behind: they begin a new epoch, and clients are told so."""
_OF_AN_EMPTY_ONE = frozenset(key.encode() for key in (_KEYS.instance, _KEYS.schema, _KEYS.layout))
"""Keys that a server leaves in a Redis that it has merely looked at."""


class _Read(NamedTuple):
    """A piece of a key, and where in it the piece began."""

    key: bytes
    start: bytes
    piece: Piece


class TakenOver(HookcastError):  # noqa: N818  it says what happened
    """Another `hookcast migrate` works on these two now."""

    def __init__(self) -> None:
        super().__init__("another `hookcast migrate` has taken over")


class Incomplete(HookcastError):  # noqa: N818  it says what is wrong
    """The copy is not what the source holds."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"the copy of {key.decode(errors='replace')} is not what the source holds")


async def look(redis: Redis) -> Found:
    """What a Redis holds. Raises InvalidInput if Hookcast cannot work with it, Unavailable."""
    state = await check_fit(redis)
    count = 0
    async for batch in _batches(redis):
        count += len(set(batch) - _OF_AN_EMPTY_ONE)
    with translated("be looked at"):
        events: int = await redis.xlen(_KEYS.events)
        layout = cast("bytes | None", await redis.get(_KEYS.layout))
    return Found(state.instance, state.mark, count, events, int((layout or b"1").split()[-1]))


async def clear(target: Redis, mark: Mark, progress: Progress) -> None:
    """Deletes every key of ours in the target but the mark. Raises Unavailable, TakenOver."""
    done = 0
    async for batch in _batches(target):
        with translated("delete"):
            if not await _clear(target, [Keys().mark.encode(), *batch], [mark.write()]):
                raise TakenOver
        done += len(batch)
        progress("deleted", done)


async def copy(source: Redis, target: Redis, mark: Mark, progress: Progress) -> int:
    """Copies every key of ours; how many. Raises Unavailable, TakenOver, InvalidInput for what cannot be moved."""
    done = 0
    async for batch in _batches(source):
        async for reads in _reads(source, batch):
            words: list[bytes | int] = [mark.write().encode()]
            for read in reads:
                words += arguments(read.piece, is_first=not read.start)
            with translated("take the copy"):
                if not await _write(target, [Keys().mark.encode(), *(read.key for read in reads)], words):
                    raise TakenOver
        done += len(batch)
        progress("copied", done)
    return done


async def compare(source: Redis, target: Redis, progress: Progress) -> None:
    """Reads all of both again. Raises Incomplete at the first key that the target has not as the source has it."""
    done = 0
    async for batch in _batches(source):
        async for reads in _reads(source, batch):
            wanted = [(read.key, read.start) for read in reads]
            copies = await _read_some(target, wanted, "give the copy back", most=NO_BOUND)
            for read, copied in zip(reads, copies, strict=True):
                if not is_kept(read.piece, copied):
                    raise Incomplete(read.key)
        done += len(batch)
        progress("compared", done)


async def _batches(redis: Redis) -> AsyncIterator[list[bytes]]:
    """The keys of ours; while nobody writes each is there at least once."""
    cursor = 0
    while True:
        with translated("list keys"):
            cursor, found = await redis.scan(cursor, match=f"{_KEYS.prefix}*", count=BATCH_KEYS)
        moved = (key for key in dict.fromkeys(cast("list[bytes]", found)) if not key.startswith(_OF_CHANNELS))
        keys = [key for key in moved if key not in _OF_A_SERVER]
        if keys:
            yield keys
        if cursor == 0:
            return


async def _reads(redis: Redis, keys: Sequence[bytes]) -> AsyncIterator[list[_Read]]:
    """All pieces of these keys, those of one key in order."""
    wanted = [(key, b"") for key in keys]
    while wanted:
        found = await _read_some(redis, wanted)
        reads = [_Read(key, start, part) for (key, start), part in zip(wanted, found, strict=False)]
        yield reads
        begun = [(read.key, read.piece.following) for read in reads if read.piece.following]
        wanted = begun + wanted[len(found) :]


async def _read_some(
    redis: Redis, wanted: Sequence[tuple[bytes, bytes]], operation: str = "be read", most: int | None = None
) -> list[Piece]:
    """Pieces of as many of the keys as `most` bytes have room for, of one at least."""
    keys, starts = zip(*wanted, strict=True)
    with translated(operation):
        answers = await _read(redis, list(keys), [most or BATCH_BYTES, PIECE_ITEMS, *starts])
    pieces = []
    for key, answer in zip(keys, answers, strict=False):
        try:
            pieces.append(piece(answer))
        except ValueError as error:
            raise refused(SOURCE, f"{key.decode(errors='replace')} is {error}") from error
    return pieces
