"""Reading events from requests: plain JSON and CloudEvents in its three modes."""

import json
from base64 import b64encode

import pytest

from hookcast_app.events.cloudevents import Batch, Context, read_events
from hookcast_app.events.models import Event
from hookcast_core.errors import InvalidInput, Reason

CONTEXT = Context(caller="ci", now_ms=1_700_000_000_000, max_bytes=4_096)
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
CLOUD_EVENT = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.created"}


def read(
    content: object, content_type: str = "application/json", *, context: Context = CONTEXT, **headers: str
) -> Event:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    event = read_events(content_type, {name.replace("_", "-"): value for name, value in headers.items()}, body, context)
    assert isinstance(event, Event)
    return event


def read_batch(content: object, content_type: str = BATCH) -> list[Event | InvalidInput]:
    batch = read_events(content_type, {}, json.dumps(content).encode(), CONTEXT)
    assert isinstance(batch, Batch)
    return batch.entries


def refusal(content: object, content_type: str = "application/json", **headers: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read(content, content_type, context=CONTEXT, **headers)
    return caught.value


def test_a_type_is_all_that_a_plain_event_needs() -> None:
    """Source, id and time are filled in; the id is ours, so nothing is remembered of it."""
    event = read({"type": "order.created"})

    assert event.source == "/keys/ci"
    assert event.time == "2023-11-14T22:13:20.000Z"
    assert event.given is None
    assert event.ref == event.id


def test_data_stays_as_it_was_written() -> None:
    """Numbers keep their digits, strings their escapes, objects their order; only line breaks between tokens go."""
    event = read(b'{"type": "a", "data": {"z": 1.10000000000000000001,\n "a": "\\u00e9\\n"}}')

    assert event.data == b'{"z":1.10000000000000000001,"a":"\\u00e9\\n"}'


def test_every_attribute_of_a_plain_event_is_taken() -> None:
    """Each attribute arrives under its own name, channels split at spaces."""
    event = read(
        {
            "type": "order.created",
            "id": "7",
            "source": "/shop",
            "subject": "order 7",
            "time": "2026-01-31T12:00:00+01:00",
            "datacontenttype": "application/json",
            "dataschema": "https://shop.example/schema",
            "channel": "orders  chat:lobby orders",
            "partitionkey": "customer-1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
    )

    assert event.channels == ("orders", "chat:lobby")
    assert event.orderingkey == "customer-1"
    assert event.subject == "order 7"
    assert event.given is not None
    assert event.ref != event.id


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({}, "type"),
        ({"type": ""}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "a" * 129}, "type"),
        ({"type": 7}, "type"),
        ({"type": {"a": 1}}, "type"),
        ({"type": "a", "id": ""}, "id"),
        ({"type": "a", "id": "x" * 257}, "id"),
        ({"type": "a", "id": "a\u0007b"}, "id"),
        ({"type": "a", "source": "not a uri"}, "source"),
        ({"type": "a", "time": "yesterday"}, "time"),
        ({"type": "a", "time": "2026-02-30T12:00:00Z"}, "time"),
        ({"type": "a", "subject": ""}, "subject"),
        ({"type": "a", "datacontenttype": "json"}, "datacontenttype"),
        ({"type": "a", "datacontenttype": "text/plain; charset=é"}, "datacontenttype"),
        ({"type": "a", "channel": " "}, "channel"),
        ({"type": "a", "channel": "a/b"}, "channel"),
        ({"type": "a", "channel": " ".join(f"c{number}" for number in range(17))}, "channel"),
        ({"type": "a", "channel": 5}, "channel"),
        ({"type": "a", "traceparent": "00-xyz"}, "traceparent"),
        ({"type": "a", "data_base64": "%%%"}, "data_base64"),
        ({"type": "a", "data_base64": 5}, "data_base64"),
        ({"type": "a", "data": 1, "data_base64": "MQ=="}, "data_base64"),
        ({"type": "a", "channels": "orders"}, "channels"),
    ],
)
def test_a_wrong_attribute_is_named(attributes: dict[str, object], field: str) -> None:
    """A refusal says which attribute is wrong and what to write instead."""
    error = refusal(attributes)

    assert (error.reason, error.field) == (Reason.INVALID_EVENT, field)
    assert len(error.detail) > 10


def test_a_repetition_may_have_another_time_and_trace() -> None:
    """An SDK fills them in anew when the same event is published again; everything else must be the same."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
    first = read({**CLOUD_EVENT, "time": "2026-01-31T12:00:00Z", "traceparent": trace + "0"}, STRUCTURED)
    again = read({**CLOUD_EVENT, "time": "2026-01-31T12:00:01Z", "traceparent": trace + "1"}, STRUCTURED)
    other = read({**CLOUD_EVENT, "subject": "2"}, STRUCTURED)

    assert first.given == again.given
    assert first.given != other.given


def test_types_of_ours_are_reserved() -> None:
    """Nobody else can publish what looks like an event of Hookcast itself."""
    assert refusal({"type": "hookcast.task.failed"}).reason is Reason.RESERVED_TYPE


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"5", b'"text"', b'{"type": "a"} {}', b'{"type": "\xff"}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Also when it is empty, cut off, or no UTF-8."""
    assert refusal(body).reason is Reason.INVALID_EVENT


def test_nesting_is_bounded() -> None:
    """64 levels pass, 65 do not; brackets inside strings do not count."""
    deep = read(b'{"type": "a", "data": ' + b"[" * 64 + b"]" * 64 + b"}")
    text = read({"type": "a", "data": ["[" * 100, '"' + "{" * 100]})

    error = refusal(b'{"type": "a", "data": ' + b"[" * 65 + b"]" * 65 + b"}")

    assert deep.data is not None
    assert text.data is not None
    assert error.field == "data"


def test_nesting_that_would_exhaust_the_stack_is_refused() -> None:
    """A million brackets are an answer, not a crash."""
    with pytest.raises(InvalidInput):
        read(b'{"type": "a", "data": ' + b"[" * 1_000_000 + b"}", context=Context("ci", 0, max_bytes=2_000_000))


def test_an_event_over_the_limit_is_too_large() -> None:
    """The limit holds for one event, also within a batch, where it refuses that entry alone."""
    large = {**CLOUD_EVENT, "data": "x" * 5_000}

    assert refusal(large, STRUCTURED).reason is Reason.TOO_LARGE
    entries = read_batch([CLOUD_EVENT, large])
    assert isinstance(entries[0], Event)
    assert isinstance(entries[1], InvalidInput)
    assert entries[1].reason is Reason.TOO_LARGE


def test_structured_mode_keeps_extensions() -> None:
    """Extension attributes that we do not know go on to receivers; null means absent."""
    event = read({**CLOUD_EVENT, "team": "a", "count": 3, "flag": True, "empty": None, "data": None}, STRUCTURED)

    assert event.extensions == {"team": "a", "count": 3, "flag": True}
    assert event.data == b"null"
    assert event.source == "/shop"


@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_structured_mode_needs_what_the_specification_requires(missing: str) -> None:
    """CloudEvents 1.0: id, source, type and specversion are required."""
    content = {name: value for name, value in CLOUD_EVENT.items() if name != missing}

    assert refusal(content, STRUCTURED).field == missing


@pytest.mark.parametrize(
    ("name", "value"), [("Team", "a"), ("t" * 21, "a"), ("team", 1.5), ("team", ["a"]), ("team", ""), ("a-b", "c")]
)
def test_a_wrong_extension_is_refused(name: str, value: object) -> None:
    """Names are lower-case letters and digits; values are strings, integers or booleans."""
    assert refusal({**CLOUD_EVENT, name: value}, STRUCTURED).field == name


def test_extensions_are_bounded_in_number() -> None:
    """At most 32."""
    many = {f"ext{number}": "a" for number in range(33)}

    assert "33" in refusal({**CLOUD_EVENT, **many}, STRUCTURED).detail


def test_plain_json_with_specversion_is_a_cloud_event() -> None:
    """Some senders label structured events as plain JSON."""
    event = read({**CLOUD_EVENT, "team": "a"})

    assert event.extensions == {"team": "a"}


def test_binary_mode_takes_attributes_from_headers() -> None:
    """Percent-encoding in values is undone (HTTP binding, 3.1.3.2); the body is the data."""
    event = read(
        b'{"amount": 5}',
        "application/json; charset=utf-8",
        ce_specversion="1.0",
        ce_id="7",
        ce_source="/shop",
        ce_type="order.created",
        ce_subject="caf%C3%A9",
        ce_channel="orders",
    )

    assert event.subject == "café"
    assert event.data == b'{"amount": 5}'
    assert event.channels == ("orders",)
    assert event.datacontenttype == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        ('"order 7"', "order 7"),
        (r'"the \"big\" one \\ 100%25"', r'the "big" one \ 100%'),
        ('the "big" one', 'the "big" one'),
        ("%22order%22", '"order"'),
        ('"open', '"open'),
        ("100%2525", "100%25"),
    ],
)
def test_header_values_are_unquoted_and_percent_decoded_once(header: str, subject: str) -> None:
    """HTTP Protocol Binding, 3.1.3.2."""
    event = read(b"", "", ce_specversion="1.0", ce_id="7", ce_source="/s", ce_type="a", ce_subject=header)

    assert event.subject == subject


def test_binary_mode_carries_other_content_as_base64() -> None:
    """A body that is not JSON is no JSON value; receivers get its bytes."""
    headers = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/shop", "ce_type": "photo.taken"}

    event = read(b"\x89PNG\xff", "image/png", context=CONTEXT, **headers)
    empty = read(b"", "image/png", context=CONTEXT, **headers)

    assert event.data_base64 == b64encode(b"\x89PNG\xff").decode()
    assert empty.data_base64 is None


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_specversion": "0.3", "ce_id": "7", "ce_source": "/s", "ce_type": "a"},
        {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/s", "ce_type": "a", "ce_datacontenttype": "text/plain"},
        {"ce_type": "a", "ce_id": "7", "ce_source": "/s"},
    ],
)
def test_binary_mode_refuses_what_the_binding_forbids(headers: dict[str, str]) -> None:
    """Another version, or the content type twice."""
    assert refusal(b"{}", "application/json", **headers).reason is Reason.INVALID_EVENT


def test_binary_json_must_be_json() -> None:
    """What calls itself JSON and is not is refused, not passed on."""
    headers = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/s", "ce_type": "a"}

    assert refusal(b"{", "application/json", **headers).reason is Reason.INVALID_EVENT


def test_each_entry_of_a_batch_is_judged_on_its_own() -> None:
    """A wrong entry leaves the others alone."""
    good, bad, alien = read_batch([CLOUD_EVENT, {"id": "8"}, 5])

    assert isinstance(good, Event)
    assert isinstance(bad, InvalidInput)
    assert isinstance(alien, InvalidInput)


def test_plain_events_may_come_as_a_list_too() -> None:
    """A list of plain events is a batch of them."""
    first, second = read_batch([{"type": "a"}, {"type": "b"}], "application/json")

    assert isinstance(first, Event)
    assert isinstance(second, Event)


@pytest.mark.parametrize(("content", "reason"), [([], Reason.INVALID_EVENT), ([{}] * 1001, Reason.TOO_LARGE)])
def test_a_batch_has_one_to_a_thousand_events(content: list[object], reason: Reason) -> None:
    """An empty or oversized batch is refused whole."""
    with pytest.raises(InvalidInput) as caught:
        read_batch(content)
    assert caught.value.reason is reason


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/xml"])
def test_other_content_is_refused_with_what_to_send(content_type: str) -> None:
    """The refusal lists the media types that are taken."""
    error = refusal(b"{}", content_type)

    assert error.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert "application/cloudevents+json" in error.detail


def test_an_idempotency_key_makes_the_id() -> None:
    """The same key and place give the same id, so that a repeated request is a duplicate."""
    first = read({"type": "a"}, context=Context("ci", 1, 4_096, idempotency_key="k"))
    again = read({"type": "a"}, context=Context("ci", 2, 4_096, idempotency_key="k"))
    other = read({"type": "a"}, context=Context("cd", 1, 4_096, idempotency_key="k"))

    assert first.id == again.id
    assert first.given == again.given
    assert first.id != other.id


def test_a_repetition_is_told_from_another_event_with_the_same_id() -> None:
    """The digest covers everything that the publisher wrote, in whatever order."""
    first = read({"type": "a", "id": "7", "data": 1})
    again = read({"id": "7", "data": 1, "type": "a"})
    other = read({"type": "a", "id": "7", "data": 2})

    assert first.given == again.given
    assert first.given != other.given


def test_an_event_that_runs_in_a_loop_is_refused() -> None:
    """Eight webhooks of ours are enough."""
    read({"type": "a"}, context=Context("ci", 1, 4_096, hops=8))

    with pytest.raises(InvalidInput) as caught:
        read({"type": "a"}, context=Context("ci", 1, 4_096, hops=9))
    assert caught.value.reason is Reason.TOO_MANY_HOPS
