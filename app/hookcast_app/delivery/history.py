"""What the API shows of events and deliveries: reads only, newest first, in pages."""

from dataclasses import dataclass
from typing import cast

import msgspec
from redis.asyncio import Redis

from hookcast_app.delivery.models import Attempt, Disabled, Place, Record, delivery_id
from hookcast_app.delivery.request import message_id
from hookcast_app.events import Stored, timestamp
from hookcast_app.redis import Keys, ref_of, translated

SCAN_AT_MOST = 1_000
"""References that one request looks at; a page that finds too little continues from its cursor."""
PLACES_READ = (Place.WAITING, Place.LATER, Place.DEAD, Place.DELIVERED, Place.DISCARDED)


@dataclass(frozen=True, slots=True)
class Known:
    """One event as stored: its record, its body, and its deliveries by subscription UID."""

    ref: str
    event: Stored
    body: bytes
    deliveries: dict[str, Record]


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
        deliveries = {uid: Record() for uid in fields.get(b"s", b"").decode().split()}
        for name, value in fields.items():
            if name.startswith(b"d:"):
                deliveries[name[2:].decode()] = msgspec.json.decode(value, type=Record)
        return Known(ref, msgspec.json.decode(fields[b"m"], type=Stored), fields[b"b"], deliveries)

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
        answer = await self._redis.xrevrange(key, max=f"({before}" if before else "+", count=limit)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", answer)
        return [(entry.decode(), ref_of(fields[b"e"].decode())) for entry, fields in entries]


def shown_delivery(known: Known, uid: str, now_ms: int, *, attempts: bool = False) -> dict[str, object]:
    """One delivery as the API shows it. One that is in flight is shown as waiting: only its dispatcher knows."""
    record = known.deliveries[uid]
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
        shown["attempts"] = [_shown_attempt(attempt) for attempt in record.attempts]
    return shown


def _shown_attempt(attempt: Attempt) -> dict[str, object]:
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
