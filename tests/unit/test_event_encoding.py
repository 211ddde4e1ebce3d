"""Events as bytes, and their ids."""

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.events.encoding import data_of, stored, structured
from hookcast_app.events.models import Event, event_ref, timestamp, uuid7

BASE: dict[str, Any] = {"id": "7", "source": "/shop", "type": "order.created", "time": "2026-01-31T12:00:00Z"}


def test_the_structured_form_is_a_cloud_event() -> None:
    """Every attribute is there once, under its own name, absent ones are not."""
    event = Event(
        **BASE, data=b'{"a":1.10}', datacontenttype="application/json", channels=("a", "b"), extensions={"team": "x"}
    )

    body, _ = structured(event)

    assert json.loads(body) == {
        "specversion": "1.0",
        **BASE,
        "datacontenttype": "application/json",
        "channel": "a b",
        "team": "x",
        "data": {"a": 1.1},
    }
    assert b'{"a":1.10}' in body


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_data_is_found_again_in_the_structured_form(value: object) -> None:
    """Whatever the data is, cutting it out of the envelope gives exactly its bytes."""
    data = json.dumps(value).encode()
    event = Event(**BASE, data=data)

    body, data_at = structured(event)

    assert data_of(stored(event, data_at, 0, ""), body) == (data, "application/json")


def test_binary_data_is_found_again() -> None:
    """Base64 in the envelope, bytes for those who want the data alone."""
    event = Event(**BASE, data_base64="AAH/", datacontenttype="image/png")

    body, data_at = structured(event)

    assert json.loads(body)["data_base64"] == "AAH/"
    assert data_of(stored(event, data_at, 0, ""), body) == (b"\x00\x01\xff", "image/png")


def test_an_event_without_data_has_none() -> None:
    """No data attribute, and an empty body for those who want the data alone."""
    event = Event(**BASE)

    body, data_at = structured(event)

    assert "data" not in json.loads(body)
    assert data_of(stored(event, data_at, 0, ""), body) == (b"", "")


@pytest.mark.parametrize(
    ("media_type", "data", "alone"),
    [
        ("text/xml", r'"<a>\u00e9</a>"', "<a>é</a>"),
        ("text/plain; charset=utf-8", r'"say \"hello\""', 'say "hello"'),
        ("text/plain", "5", "5"),
        ("application/json", '"a"', '"a"'),
        ("application/vnd.shop+JSON; v=1", '"a"', '"a"'),
    ],
)
def test_text_that_is_no_json_is_sent_as_it_is(media_type: str, data: str, alone: str) -> None:
    """A JSON text carries it within an event; alone it has neither quotes nor escapes (JSON Event Format, 3.1.1)."""
    event = Event(**BASE, data=data.encode(), datacontenttype=media_type)

    body, data_at = structured(event)

    assert data_of(stored(event, data_at, 0, ""), body) == (alone.encode(), media_type)


def test_the_stored_record_survives_json() -> None:
    """What is kept beside the body is read back equal."""
    event = Event(**BASE, orderingkey="k", traceparent="t", hops=2, channels=("a",))
    record = stored(event, 5, 1_700_000_000_000, "c-1")

    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


def test_ids_are_uuid7() -> None:
    """Version, variant and time are where RFC 9562 puts them, so ids sort by time."""
    made = uuid.UUID(uuid7(now_ms=1_700_000_000_000, random_bits=lambda bits: (1 << bits) - 1))

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_700_000_000_000
    assert uuid7(1) < uuid7(2)
    assert uuid7() != uuid7()


def test_references_tell_sources_apart() -> None:
    """The same id of two sources are two events; no pair can be written to collide with another."""
    assert event_ref("/a", "1") != event_ref("/b", "1")
    assert event_ref("/a", "b1") != event_ref("/ab", "1")
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
