"""A delivery: one event on its way to one subscription's endpoint."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Self

import msgspec

from hookcast_app.references import ref_of
from hookcast_core.errors import Reason

MAX_ATTEMPTS_KEPT = 50
"""The attempt log of one delivery keeps the latest so many."""


class Place(StrEnum):
    """Where a delivery is; it is in exactly one."""

    WAITING = "waiting"
    IN_FLIGHT = "in_flight"
    LATER = "later"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One line of the attempt log. `at` is epoch ms; `status` None where no answer came; `head` starts the answer."""

    number: int
    at: int
    duration_ms: int
    status: int | None = None
    reason: Reason | None = None
    detail: str = ""
    head: str = ""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored of a delivery once it was attempted. `due` is epoch ms while it waits for its next attempt."""

    place: Place = Place.WAITING
    made: int = 0
    reason: Reason | None = None
    due: int | None = None
    attempts: tuple[Attempt, ...] = ()

    def after(self, attempt: Attempt, place: Place, reason: Reason | None, due: int | None) -> "Record":
        """The record with one more attempt."""
        attempts = (*self.attempts, attempt)[-MAX_ATTEMPTS_KEPT:]
        return Record(place=place, made=attempt.number, reason=reason, due=due, attempts=attempts)


ENDED = frozenset({Place.DELIVERED, Place.DEAD, Place.DISCARDED})
"""Places that a delivery leaves only if somebody wants it to."""


class State(NamedTuple):
    """A delivery as it is stored: its record and the value that holds it, empty if it was not attempted yet."""

    record: Record = Record()
    value: bytes = b""
    cancelled: bool = False

    @classmethod
    def of(cls, value: bytes | None, *, cancelled: bool = False) -> Self:
        """From what Redis has."""
        record = _decode_record(value.partition(b"\n")[0]) if value else Record()
        if cancelled and record.place not in ENDED:
            record = msgspec.structs.replace(record, place=Place.DISCARDED, reason=Reason.CANCELLED, due=None)
        return cls(record, value or b"", cancelled)

    @property
    def entry(self) -> bytes:
        """Where in its place a delivery is that has ended."""
        return self.value.partition(b"\n")[2]


def states_of(fields: Mapping[bytes, bytes]) -> dict[str, State]:
    """An event's deliveries by subscription UID, from its hash in Redis."""
    return {
        uid: State.of(fields.get(f"d:{uid}".encode()), cancelled=f"c:{uid}".encode() in fields)
        for uid in fields.get(b"s", b"").decode().split()
    }


class Disabled(msgspec.Struct, frozen=True):
    """Why and as of which specification a subscription was disabled; `at` and `enabled_at` are epoch ms."""

    reason: Reason
    fingerprint: str
    at: int
    generation: int = 0
    enabled_at: int = 0


_decode_record = msgspec.json.Decoder(Record).decode


def delivery_id(reference: str, uid: str) -> str:
    """The id by which the API and `x-hookcast-delivery` name a delivery."""
    return f"{ref_of(reference)}.{uid}"


def split_delivery_id(text: str) -> tuple[str, str] | None:
    """(ref, uid) of a delivery's id, or None if it is none."""
    ref, dot, uid = text.partition(".")
    return (ref, uid) if dot and ref and uid else None
