"""What the API shows of events and deliveries: reads only, newest first, in pages."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Self, cast

import msgspec

from hookcast_app.delivery.breaker import Failing
from hookcast_app.delivery.models import Attempt, Disabled, Place, State, delivery_id, split_delivery_id, states_of
from hookcast_app.delivery.request import message_id
from hookcast_app.events import Stored, timestamp
from hookcast_app.redis import Partition, Partitions, translated
from hookcast_app.references import ref_of, reference
from hookcast_core.errors import InvalidInput, Reason

_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})~(\d{1,9})~(.{0,128})", re.ASCII)
PLACES_READ = (Place.WAITING, Place.LATER, Place.DEAD, Place.DELIVERED, Place.DISCARDED)


@dataclass(frozen=True, slots=True)
class Known:
    """One event as stored: its record, its body, its deliveries by subscription UID, and the partition it is in."""

    ref: str
    event: Stored
    body: bytes
    deliveries: dict[str, State]
    partition: Partition


class Found(NamedTuple):
    """One delivery, without its event's body."""

    uid: str
    ref: str
    event: Stored
    state: State
    partition: Partition

    @property
    def reference(self) -> str:
        """How its lane refers to its event."""
        return reference(self.ref, self.event.orderingkey)


class Listed(NamedTuple):
    """One entry of a listing. Entries are ordered by their times, and by where they are for those of one time."""

    ms: int
    number: int
    tag: int
    uid: str
    ref: str

    @property
    def cursor(self) -> str:
        """Where a listing goes on behind this entry."""
        return f"{self.ms}-{self.number}~{self.tag}~{self.uid}"


class Cursor(NamedTuple):
    """Where a listing goes on: behind an entry that was given, or at its start."""

    ms: int
    number: int
    tag: int
    uid: str

    @classmethod
    def read(cls, text: str) -> Self:
        """From a `Listed.cursor`. Raises ValueError."""
        found = _CURSOR.fullmatch(text)
        if not found:
            raise ValueError("no cursor")
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4])


class History:
    """Reads events and deliveries of all partitions; lives as long as the app."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    async def event(self, ref: str) -> Known | None:
        """The newest event of this reference with its deliveries, or None.

        Several partitions may each have one: an id is used for another ordering key once it was forgotten.
        """
        return next(iter(await self._kept(ref)), None)

    async def event_in(self, tag: int, ref: str) -> Known | None:
        """The event of this reference that one partition has, or None."""
        partition = self._partitions.by_tag(tag)
        return None if partition is None else await self._read(partition, ref)

    async def delivery(self, delivery_id: str) -> tuple[Known, str]:
        """The event of a delivery, and its subscription's UID. Raises InvalidInput (NotFound)."""
        if parts := split_delivery_id(delivery_id):
            ref, uid = parts
            for known in await self._kept(ref):
                if uid in known.deliveries:
                    return known, uid
        raise InvalidInput(Reason.NOT_FOUND, "delivery", "no delivery of this id is kept")

    async def _kept(self, ref: str) -> list[Known]:
        """The events of this reference, newest first."""
        found = [await self._read(partition, ref) for partition in self._partitions.all]
        kept = [known for known in found if known is not None]
        return sorted(kept, key=lambda known: known.event.accepted_ms, reverse=True)

    async def _read(self, partition: Partition, ref: str) -> Known | None:
        with translated("read an event"):
            answer = await partition.redis.hgetall(partition.keys.event(ref))
        fields = cast("dict[bytes, bytes]", answer)
        if b"m" not in fields:
            return None
        event = msgspec.json.decode(fields[b"m"], type=Stored)
        return Known(ref, event, fields[b"b"], states_of(fields), partition)

    async def found(self, partition: Partition, uid: str, refs: Sequence[str]) -> list[Found]:
        """One subscription's deliveries of these events of a partition, those that are there."""
        pipeline = partition.redis.pipeline(transaction=False)
        for ref in refs:
            pipeline.hmget(partition.keys.event(ref), "m", f"d:{uid}", f"c:{uid}")
        with translated("read deliveries"):
            answers = cast("list[list[bytes | None]]", await pipeline.execute())
        found = []
        for ref, (event, value, cancelled) in zip(refs, answers, strict=True):
            if event is not None:
                state = State.of(value, cancelled=cancelled is not None)
                found.append(Found(uid, ref, msgspec.json.decode(event, type=Stored), state, partition))
        return found

    async def ended_in(
        self, partition: Partition, uid: str, place: Place, after: str, until: int, limit: int
    ) -> list[tuple[str, str]]:
        """(stream id, ref) of one subscription's deliveries of a partition that ended in a place, the oldest first.

        `after` is a time (epoch ms), or the stream id of the last one of before; `until` is a time.
        """
        start = f"({after}" if "-" in after else after
        with translated("list deliveries"):
            answer = await partition.redis.xrange(partition.keys.lane(uid, place.value), start, str(until), count=limit)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", answer)
        return [(entry.decode(), ref_of(fields[b"e"].decode())) for entry, fields in entries]

    async def buried(self) -> list[str]:
        """The UIDs of subscriptions with dead letters, also of those that are gone."""
        found: set[bytes] = set()
        for redis, keys in self._partitions.all:
            with translated("list dead letters"):
                found |= cast("set[bytes]", await redis.smembers(keys.buried))
        return sorted(uid.decode() for uid in found)

    async def standing(self, uid: str) -> tuple[dict[str, int], Failing | None]:
        """How many of a subscription's deliveries are in each place, and what is known of an endpoint that fails."""
        places = dict.fromkeys((place.value for place in PLACES_READ), 0)
        failing: list[Failing] = []
        for redis, keys in self._partitions.all:
            pipeline = redis.pipeline(transaction=False)
            for place in PLACES_READ:
                key = keys.lane(uid, place.value)
                pipeline.zcard(key) if place is Place.LATER else pipeline.xlen(key)
            pipeline.hget(keys.failing, uid)
            with translated("look at a lane"):
                *counts, stored = await pipeline.execute()
            for place, count in zip(PLACES_READ, counts, strict=True):
                places[place.value] += count
            failing += [msgspec.json.decode(stored, type=Failing)] if stored else []
        return places, max(failing, key=lambda each: each.open_until or 0, default=None)

    async def disabled(self) -> dict[str, Disabled]:
        """The subscriptions that an endpoint's answer disabled, by UID."""
        redis, keys = self._partitions.home
        with translated("list disabled subscriptions"):
            found = cast("dict[bytes, bytes]", await redis.hgetall(keys.disabled))
        return {uid.decode(): msgspec.json.decode(state, type=Disabled) for uid, state in found.items()}

    # Listings

    async def events(self, before: Cursor | None, limit: int) -> list[Listed]:
        """Accepted events, newest first."""
        return await self._newest([(each, "", each.keys.events) for each in self._partitions.all], before, limit)

    async def deliveries(self, uids: Iterable[str], place: Place, before: Cursor | None, limit: int) -> list[Listed]:
        """Deliveries of subscriptions in one place, any but `later`: those that came there last first."""
        each = [(part, uid, part.keys.lane(uid, place.value)) for part in self._partitions.all for uid in uids]
        return await self._newest(each, before, limit)

    async def later(
        self, uid: str, ranks: Mapping[int, int], limit: int
    ) -> tuple[list[tuple[int, str]], dict[int, int]]:
        """(tag, ref) of a subscription's deliveries that wait for their next attempt, the soonest first.

        `ranks` say, by tag, how many were listed of each partition before; and so do those that are returned.
        """
        listed = {partition.keys.tag: ranks.get(partition.keys.tag, 0) for partition in self._partitions.all}
        found: list[tuple[float, int, str]] = []
        for redis, keys in self._partitions.all:
            at = keys.tag
            with translated("list deliveries"):
                answer = await redis.zrange(
                    keys.lane(uid, "later"), listed[at], listed[at] + limit - 1, withscores=True
                )
            some = cast("list[tuple[bytes, float]]", answer)
            found += [(due, at, ref_of(name.decode())) for name, due in some]
        chosen = sorted(found)[:limit]
        for _, at, _ in chosen:
            listed[at] += 1
        return [(at, ref) for _, at, ref in chosen], listed

    async def _newest(
        self, streams: Sequence[tuple[Partition, str, str]], before: Cursor | None, limit: int
    ) -> list[Listed]:
        """The newest entries of all these streams (partition, UID, key) before a cursor."""
        newest = f"{before.ms}-{before.number}" if before else "+"
        found: list[Listed] = []
        for redis, group in groupby(streams, key=lambda each: each[0].redis):
            some = list(group)
            pipeline = redis.pipeline(transaction=False)
            for _, _, key in some:
                pipeline.xrevrange(key, max=newest, count=limit + 1)
            with translated("list what there is"):
                answers = await pipeline.execute()
            for (partition, uid, _), answer in zip(some, answers, strict=True):
                for entry, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", answer):
                    ms, _, number = entry.decode().partition("-")
                    ref = ref_of(fields[b"e"].decode())
                    found.append(Listed(int(ms), int(number), partition.keys.tag, uid, ref))
        older = [one for one in found if before is None or one[:4] < before]
        return sorted(older, reverse=True)[:limit]


def shown_delivery(known: Known, uid: str, now_ms: int, *, attempts: bool = False) -> dict[str, object]:
    """One delivery as the API shows it. One that is in flight is shown as waiting: only its dispatcher knows."""
    record = known.deliveries[uid].record
    due = record.due if record.due is not None and record.due > now_ms else None
    place = Place.WAITING if record.place is Place.LATER and due is None else record.place
    shown: dict[str, object] = {
        "id": delivery_id(known.ref, uid),
        "event": known.event.id,
        "source": known.event.source,
        "type": known.event.type,
        "subscription": uid,
        "webhookId": message_id(uid, known.event),
        "status": place.value,
        "reason": record.reason,
        "attemptsMade": record.made,
        "nextAttemptAt": timestamp(due) if due is not None else None,
        "acceptedAt": timestamp(known.event.accepted_ms),
        "correlationId": known.event.correlation_id,
    }
    if attempts:
        shown["attempts"] = [shown_attempt(attempt) for attempt in record.attempts]
    return shown


def shown_attempt(attempt: Attempt) -> dict[str, object]:
    """One attempt as the API shows it."""
    return {
        "number": attempt.number,
        "at": timestamp(attempt.at),
        "durationMs": attempt.duration_ms,
        "status": attempt.status,
        "reason": attempt.reason,
        "detail": attempt.detail or None,
        "responseHead": attempt.head,
    }


def shown_event(known: Known, now_ms: int) -> dict[str, object]:
    """One event as the API shows it: the CloudEvent, and how each of its deliveries stands."""
    return {
        "event": msgspec.Raw(known.body),
        "acceptedAt": timestamp(known.event.accepted_ms),
        "correlationId": known.event.correlation_id,
        "deliveries": [shown_delivery(known, uid, now_ms) for uid in known.deliveries],
    }
