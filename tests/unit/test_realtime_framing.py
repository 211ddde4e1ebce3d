"""Publications as bytes, what is decided of a handshake, and what waits for a client."""

import asyncio

import pytest

from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import event, reset_event
from hookcast_app.realtime.handshake import chosen_subprotocol, header, is_allowed_origin
from hookcast_app.realtime.outbox import MAX_QUEUED, Outbox


def test_line_breaks_in_data_do_not_end_an_event() -> None:
    """Each line of the data is a `data:` line, whichever way it is broken."""
    assert event(b"a\nb\r\nc\rd") == b"data: a\ndata: b\ndata: c\ndata: d\n\n"


def test_a_reset_is_an_event_of_its_own_type() -> None:
    """It names the channel."""
    assert reset_event("a") == b'event: reset\ndata: {"channel": "a"}\n\n'


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "verdict"),
    [
        (None, "a", (), True),
        ("https://a.example", "a.example", (), True),
        ("https://A.example", "a.EXAMPLE", (), True),
        ("http://a.example:8000", "a.example:8000", (), True),
        ("http://a.example:8001", "a.example:8000", (), False),
        ("https://b.example", "a.example", (), False),
        ("https://b.example", "a.example", ("https://B.example/",), True),
        ("http://b.example", "a.example", ("https://b.example",), False),
        ("https://b.example", "a.example", ("*",), True),
        ("null", "a.example", (), False),
        ("null", "null", (), False),
        ("", "", (), False),
        ("https://", "", (), False),
        ("https://a.example", None, (), False),
        ("https://[", "a.example", (), False),
        ("HTTPS://a.example", "a.example", (), True),
        ("ftp://a.example", "a.example", (), False),
        ("chrome-extension://a.example", "a.example", (), False),
        ("://a.example", "a.example", (), False),
        ("app://a.example", "b.example", ("app://a.example",), True),
    ],
)
def test_origins(origin: str | None, host: str | None, allowed: tuple[str, ...], verdict: bool) -> None:  # noqa: FBT001
    """The server's own and those allowed; no Origin is no browser."""
    assert is_allowed_origin(origin, host, allowed) is verdict


def test_headers_and_subprotocols_are_found_among_others() -> None:
    """The first of a name; ours or none."""
    assert header([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], b"b") == "2"
    assert header([], b"b") is None
    assert chosen_subprotocol(["x", "centrifuge-json"]) == "centrifuge-json"
    assert chosen_subprotocol(["centrifuge-protobuf"]) is None


async def test_an_outbox_gives_all_that_waits_and_then_its_end() -> None:
    """In order; what comes after its closing is dropped."""
    outbox = Outbox(lambda: None)
    waiting = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.write(b"a")
    outbox.write(b"b")

    assert await waiting == b"ab"
    outbox.write(b"c")
    outbox.close()
    outbox.write(b"d")
    assert await outbox.take() == b"c"
    assert await outbox.take() == b""


async def test_an_outbox_is_bounded() -> None:
    """Beyond the bound everything is dropped and its owner told, once; one large write alone is no offence."""
    overflows: list[int] = []
    outbox = Outbox(lambda: overflows.append(1))

    outbox.write(b"x" * (MAX_QUEUED + 1))
    assert overflows == []
    outbox.write(b"x")
    outbox.write(b"x")

    assert overflows == [1]
    assert await outbox.take() == b""


async def test_an_identity_ends_when_the_clock_says_so() -> None:
    """At once if it is past; by the clock that it is told, looked at again; never if it is cancelled or has no end."""
    ended: list[str] = []
    now = 100.0
    looks: list[float] = []
    looked_again = asyncio.Event()

    def clock() -> float:
        looks.append(now)
        if len(looks) >= 5:
            looked_again.set()
        return now

    Expiry(None, clock, lambda: ended.append("never")).cancel()
    Expiry(100.0, clock, lambda: ended.append("past"))
    assert ended == ["past"]
    cancelled = Expiry(100.005, clock, lambda: ended.append("cancelled"))
    cancelled.cancel()
    done = asyncio.Event()
    Expiry(100.01, clock, done.set)
    await asyncio.wait_for(looked_again.wait(), 5)
    assert not done.is_set()
    now = 101.0
    await asyncio.wait_for(done.wait(), 5)
    assert ended == ["past"]
