"""Replays: many deliveries attempted again, or purged, in the background, with progress; they survive restarts.

A task goes through the places of its lanes, oldest first, a page at a time, in each partition by itself. Each page is
one script that moves the deliveries and the task's step together, so that none is moved twice, whoever goes on with it.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, cast

import msgspec
import structlog

from hookcast_app.delivery.history import Found, History
from hookcast_app.delivery.models import Place
from hookcast_app.delivery.moves import LEFT_ALONE_MS, Moves, Overtaken, Step, again, purge
from hookcast_app.events import timestamp, uuid7
from hookcast_app.redis import Partition, Partitions, Script, translated
from hookcast_core.errors import Unavailable
from hookcast_core.filters import matches_type

_log = structlog.get_logger("hookcast.delivery")
_task = Script("hookcast_app.delivery", "task.lua")
PAGE = 200
"""Deliveries of one step: some milliseconds of Redis."""
FAILED_SECONDS = 604_800
"""How long a task is known that failed by an error of ours."""
ENDS = ("done", "failed")
LOOK_SECONDS = 5.0
"""Tasks of processes that died are looked for so often."""


class Wanted(msgspec.Struct, frozen=True):
    """What a task is to do. Times are epoch ms, of when the deliveries ended; `types` are patterns of event types."""

    what: Literal["again", "purge"]
    lanes: tuple[str, ...]
    places: tuple[Place, ...]
    until: int
    since: int = 0
    types: tuple[str, ...] = ()
    asked: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far a task is."""

    id: str
    wanted: Wanted
    step: str
    looked: int
    moved: int

    def shown(self) -> dict[str, object]:
        """As the API shows it."""
        return {
            "id": self.id,
            "action": "replay" if self.wanted.what == "again" else "purge",
            "state": self.step if self.step in ENDS else "running",
            "examined": self.looked,
            "moved": self.moved,
            "requestedAt": self.wanted.asked,
        }


class Replays:
    """Lives as long as the app; `run` is its one task."""

    def __init__(self, partitions: Partitions, history: History, moves: Moves, clock: Callable[[], int]) -> None:
        self._partitions = partitions
        self._history = history
        self._moves = moves
        self._clock = clock
        self._asked = asyncio.Event()

    async def ask(self, wanted: Wanted) -> Progress:
        """Stores what is wanted in each partition; it is begun at once. Raises Unavailable."""
        name = uuid7()
        wanted = msgspec.structs.replace(wanted, asked=timestamp(self._clock()))
        first = _first_step(wanted)
        content = msgspec.json.encode(wanted)
        values: list[str | bytes | int] = ["wanted", content, "step", first, "looked", 0, "moved", 0]
        for redis, keys in self._partitions.all:
            with translated("ask for a replay"):
                pipeline = redis.pipeline()
                pipeline.hset(keys.task(name), items=values)
                if first != "done":
                    pipeline.zadd(keys.tasks, {name: 0})
                else:
                    pipeline.expire(keys.task(name), 3_600)
                await pipeline.execute()
        self._asked.set()
        return Progress(name, wanted, first, 0, 0)

    async def progress(self, name: str) -> Progress | None:
        """How far a task is in all partitions; None if there is none of this id (any more)."""
        each = [await self._progress(partition, name) for partition in self._partitions.all]
        parts = [part for part in each if part is not None]
        if not parts:
            return None
        ahead = [part.step for part in parts if part.step != "done"]
        step = "failed" if "failed" in ahead else (*ahead, "done")[0]
        looked, moved = sum(part.looked for part in parts), sum(part.moved for part in parts)
        return Progress(name, parts[0].wanted, step, looked, moved)

    async def _progress(self, partition: Partition, name: str) -> Progress | None:
        with translated("look at a replay"):
            found = cast("dict[bytes, bytes]", await partition.redis.hgetall(partition.keys.task(name)))
        if b"wanted" not in found:
            return None
        wanted = msgspec.json.decode(found[b"wanted"], type=Wanted)
        return Progress(name, wanted, found[b"step"].decode(), int(found[b"looked"]), int(found[b"moved"]))

    async def run(self) -> None:
        """Works on tasks until cancelled, through every absence of Redis."""
        while True:
            for partition in self._partitions.all:
                try:
                    while (name := await self._take(partition)) is not None:
                        await self._work(partition, name)
                except Unavailable as error:
                    _log.warning("replay.unavailable", detail=error.detail)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
                    self._asked.clear()
            except TimeoutError:
                continue

    async def _take(self, partition: Partition) -> str | None:
        redis, keys = partition
        with translated("take a replay"):
            found = await _task(redis, [keys.mark, keys.tasks], [LEFT_ALONE_MS])
        return None if found is None else found.decode()

    async def _work(self, partition: Partition, name: str) -> None:
        try:
            while (progress := await self._progress(partition, name)) is not None and progress.step not in ENDS:
                await self._step(partition, progress)
        except Overtaken:
            _log.info("replay.overtaken", task=name)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001  one task must not end the process, nor the next one
            _log.exception("replay.defect", task=name)
            await self._fail(partition, name)

    async def _fail(self, partition: Partition, name: str) -> None:
        redis, keys = partition
        with translated("give up a replay"):
            await redis.hset(keys.task(name), "step", "failed")
            await redis.zrem(keys.tasks, name)
            await redis.expire(keys.task(name), FAILED_SECONDS)

    async def _step(self, partition: Partition, progress: Progress) -> None:
        wanted = progress.wanted
        lane, place, after = progress.step.split(" ")
        uid, where = wanted.lanes[int(lane)], wanted.places[int(place)]
        page = await self._history.ended_in(partition, uid, where, after, wanted.until, PAGE)
        found = await self._history.found(partition, uid, [ref for _, ref in page])
        make = again if wanted.what == "again" else purge
        moves = [make(one) for one in found if one.state.record.place is where and _is_wanted(one, wanted)]
        following = f"{lane} {place} {page[-1][0]}" if len(page) == PAGE else _next_step(wanted, int(lane), int(place))
        await self._moves.move(partition, moves, Step(progress.id, progress.step, following, len(page)))


def _is_wanted(found: Found, wanted: Wanted) -> bool:
    return not wanted.types or any(matches_type(pattern, found.event.type) for pattern in wanted.types)


def _first_step(wanted: Wanted) -> str:
    return f"0 0 {wanted.since}" if wanted.lanes and wanted.places else "done"


def _next_step(wanted: Wanted, lane: int, place: int) -> str:
    if place + 1 < len(wanted.places):
        return f"{lane} {place + 1} {wanted.since}"
    if lane + 1 < len(wanted.lanes):
        return f"{lane + 1} 0 {wanted.since}"
    return "done"
