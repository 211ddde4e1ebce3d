"""Moves of deliveries that somebody asks for: again, cancelled, purged. What a dispatcher does is in `store`."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from hookcast_app.delivery.history import Found
from hookcast_app.delivery.models import Place, Record, State
from hookcast_app.redis import Partition, Script, translated
from hookcast_core.errors import Reason

_move = Script("hookcast_app.delivery", "move.lua")
_cancel = Script("hookcast_app.delivery", "cancel.lua")
_encode = msgspec.json.Encoder().encode
LEFT_ALONE_MS = 10_000
"""A task is somebody else's to go on with when nothing was done to it for so long."""


class Move(NamedTuple):
    """A delivery as it was seen, and what is to become of it."""

    uid: str
    reference: str
    seen: State
    to: Literal["waiting", "discarded"]
    record: Record


class Step(NamedTuple):
    """One step of a task: from where to where it goes, and how many deliveries were looked at for it."""

    task: str
    at: str
    following: str
    looked: int


class Overtaken(Exception):  # noqa: N818  it says what happened
    """Another process is at this task."""


def again(found: Found) -> Move:
    """Has a delivery attempted from the beginning; what was attempted stays in its log."""
    record = msgspec.structs.replace(found.state.record, place=Place.WAITING, made=0, reason=None, due=None)
    return Move(found.uid, found.reference, found.state, "waiting", record)


def purge(found: Found) -> Move:
    """Has a dead letter forgotten as soon as what was delivered."""
    record = msgspec.structs.replace(found.state.record, place=Place.DISCARDED, reason=Reason.PURGED)
    return Move(found.uid, found.reference, found.state, "discarded", record)


class Moves:
    """Lives as long as the app."""

    def __init__(self, *, retention_seconds: int, dead_letter_retention_seconds: int) -> None:
        self._retention = (retention_seconds, dead_letter_retention_seconds)

    async def move(self, partition: Partition, moves: Sequence[Move], step: Step | None = None) -> int:
        """How many deliveries of one partition were moved: those that still are as they were seen.

        With a step, only if the task is where that begins: else raises Overtaken. Raises Unavailable.
        """
        redis, names = partition
        keys = [names.mark, names.ring, names.hungry, names.buried, names.tasks, names.task(step.task if step else "")]
        args: list[str | bytes | int] = [names.wake, *self._retention]
        args += (step.at, step.following, step.task, LEFT_ALONE_MS, step.looked) if step else ("", "", "", 0, 0)
        args.append(len(moves))
        for move in moves:
            keys += [names.event(move.reference), *names.places(move.uid)]
            args += (move.uid, move.reference, move.seen.value, move.seen.record.place.value)
            args += (move.seen.entry, move.to, _encode(move.record))
        with translated("move deliveries"):
            try:
                answers: list[int] = await _move(redis, keys, args)
            except ResponseError as error:
                if str(error).startswith("HOOKCASTSTEP"):
                    raise Overtaken from None
                raise
        return sum(answers)

    async def cancel(self, found: Found) -> bool:
        """Cancels a delivery that has not ended; False if it is not as it was seen. Raises Unavailable."""
        seen, uid, (redis, names) = found.state, found.uid, found.partition
        record = msgspec.structs.replace(seen.record, place=Place.DISCARDED, reason=Reason.CANCELLED, due=None)
        keys = [names.mark, names.event(found.ref), names.lane(uid, "later"), names.lane(uid, "discarded")]
        args = [uid, found.reference, seen.value, _encode(record), *self._retention, names.wake]
        with translated("cancel a delivery"):
            return bool(await _cancel(redis, keys, args))
