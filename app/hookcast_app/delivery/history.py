"""What the API shows of events and deliveries: reads only, newest first, in pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec
from redis.asyncio import Redis

from hookcast_app.delivery.breaker import Failing
from hookcast_app.delivery.models import Attempt, Disabled, Place, State, delivery_id, split_delivery_id, states_of
from hookcast_app.delivery.request import message_id
from hookcast_app.events import Stored, timestamp
from hookcast_app.redis import Keys, translated
from hookcast_app.references import ref_of, reference
from hookcast_core.errors import InvalidInput, Reason

SCAN_AT_MOST = 1_000
"""References that one request looks at; a page that finds too little continues from its cursor."""
PLACES_READ = (Place.WAITING, Place.LATER, Place.DEAD, Place.DELIVERED, Place.DISCARDED)


@dataclass(frozen=True, slots=True)
class Known:
    """One event as stored: its record, its body, and its deliveries by subscription UID."""

    ref: str
    event: Stored
    body: bytes
    deliveries: dict[str, State]


class Found(NamedTuple):
    """One delivery, without its event's body."""

    uid: str
    ref: str
    event: Stored
    state: State

    @property
    def reference(self) -> str:
        """How its lane refers to its event."""
        return reference(self.ref, self.event.orderingkey)


class History:
    """Reads events and deliveries of one partition; lives as long as the app."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def event(self, ref: str) -> Known | None:
        """One event with its deliveries, or None."""
        with translated("read an event"):
            fields = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.event(ref)))
        if b"m" not in fields:
            return None
        return Known(ref, msgspec.json.decode(fields[b"m"], type=Stored), fields[b"b"], states_of(fields))

    async def delivery(self, delivery_id: str) -> tuple[Known, str]:
        """The event of a delivery, and its subscription's UID. Raises InvalidInput (NotFound)."""
        parts = split_delivery_id(delivery_id)
        known = await self.event(parts[0]) if parts else None
        if parts is None or known is None or parts[1] not in known.deliveries:
            raise InvalidInput(Reason.NOT_FOUND, "delivery", "no delivery of this id is kept")
        return known, parts[1]

    async def found(self, uid: str, refs: Sequence[str]) -> list[Found]:
        """One subscription's deliveries of these events, those that are there."""
        pipeline = self._redis.pipeline(transaction=False)
        for ref in refs:
            pipeline.hmget(self._keys.event(ref), "m", f"d:{uid}", f"c:{uid}")
        with translated("read deliveries"):
            answers = cast("list[list[bytes | None]]", await pipeline.execute())
        return [
            Found(uid, ref, msgspec.json.decode(event, type=Stored), State.of(value, cancelled=cancelled is not None))
            for ref, (event, value, cancelled) in zip(refs, answers, strict=True)
            if event is not None
        ]

    async def ended_in(self, uid: str, place: Place, after: str, until: int, limit: int) -> list[tuple[str, str]]:
        """(stream id, ref) of one subscription's deliveries that ended in a place, the oldest first.

        `after` is a time (epoch ms), or the stream id of the last one of before; `until` is a time.
        """
        start = f"({after}" if "-" in after else after
        with translated("list deliveries"):
            answer = await self._redis.xrange(self._keys.lane(uid, place.value), start, str(until), count=limit)
        return _entries(answer)

    async def buried(self) -> list[str]:
        """The UIDs of subscriptions with dead letters, also of those that are gone."""
        with translated("list dead letters"):
            found = cast("set[bytes]", await self._redis.smembers(self._keys.buried))
        return sorted(uid.decode() for uid in found)

    async def dead_letters(
        self, uids: Sequence[str], before: tuple[str, str] | None, limit: int
    ) -> list[tuple[str, str, str]]:
        """(stream id, UID, ref) of the newest dead letters of several subscriptions, older than (stream id, UID)."""
        newest = before[0] if before else "+"
        pipeline = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.xrevrange(self._keys.lane(uid, "dead"), max=newest, count=limit + 1)
        with translated("list dead letters"):
            answers = await pipeline.execute()
        each = zip(uids, answers, strict=True)
        found = sorted(((*_moment(entry), uid, ref) for uid, one in each for entry, ref in _entries(one)), reverse=True)
        older = found if before is None else [one for one in found if one[:3] < (*_moment(before[0]), before[1])]
        return [(f"{ms}-{number}", uid, ref) for ms, number, uid, ref in older[:limit]]

    async def standing(self, uid: str) -> tuple[dict[str, int], Failing | None]:
        """How many of a subscription's deliveries are in each place, and what is known of an endpoint that fails."""
        pipeline = self._redis.pipeline(transaction=False)
        for place in PLACES_READ:
            key = self._keys.lane(uid, place.value)
            pipeline.zcard(key) if place is Place.LATER else pipeline.xlen(key)
        pipeline.hget(self._keys.failing, uid)
        with translated("look at a lane"):
            *counts, failing = await pipeline.execute()
        places = {place.value: count for place, count in zip(PLACES_READ, counts, strict=True)}
        return places, msgspec.json.decode(failing, type=Failing) if failing else None

    async def disabled(self) -> dict[str, Disabled]:
        """The subscriptions that an endpoint's answer disabled, by UID."""
        with translated("list disabled subscriptions"):
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.disabled))
        return {uid.decode(): msgspec.json.decode(state, type=Disabled) for uid, state in found.items()}

    async def event_refs(self, before: str | None, limit: int) -> list[tuple[str, str]]:
        """(stream id, ref) of accepted events, newest first, older than the stream id `before`."""
        with translated("list events"):
            return await self._newest(self._keys.events, before, limit)

    async def refs_in(self, uid: str, place: Place, before: str | None, limit: int) -> list[tuple[str, str]]:
        """(cursor, ref) of one subscription's deliveries in one place, newest first (`later`: soonest first)."""
        key = self._keys.lane(uid, place.value)
        with translated("list deliveries"):
            if place is Place.LATER:
                start = int(before or 0)
                found = cast("list[bytes]", await self._redis.zrange(key, start, start + limit - 1))
                return [(str(start + number), ref_of(ref.decode())) for number, ref in enumerate(found, 1)]
            return await self._newest(key, before, limit)

    async def _newest(self, key: str, before: str | None, limit: int) -> list[tuple[str, str]]:
        return _entries(await self._redis.xrevrange(key, max=f"({before}" if before else "+", count=limit))


def _moment(entry: str) -> tuple[int, int]:
    """A stream id, to be compared."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def _entries(answer: object) -> list[tuple[str, str]]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", answer)
    return [(entry.decode(), ref_of(fields[b"e"].decode())) for entry, fields in entries]


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
