"""RFC 6455, section 5: frames, fragments and control frames, and 8.1: what is text."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from hookcast_app.realtime.protocol import MAX_MESSAGE
from tests.integration.realtime.wire import answers, ending, server
from tests.support.websocket import (
    BINARY,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    EchoServer,
    Frame,
    close,
    fragments,
    frame,
)

__all__ = ["server"]
NORMAL, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1000, 1002, 1007, 1009
ECHO = (TEXT, b"hi")
CHOPPED = pytest.mark.parametrize("chopped", [False, True], ids=["whole", "chopped"])
"""Whether the bytes come together, or one by one."""


def ways(cases: Mapping[str, tuple[bytes, int]]) -> pytest.MarkDecorator:
    """Each case whole, and in single bytes where that does not take long and say the same."""
    short = [name for name, (sent, _) in cases.items() if len(sent) <= 1000]
    names = [*[(name, False) for name in cases], *[(name, True) for name in short]]
    ids = [f"{name}-{'chopped' if chopped else 'whole'}" for name, chopped in names]
    return pytest.mark.parametrize(("name", "chopped"), names, ids=ids)


LENGTHS = [0, 1, 125, 126, 127, 128, 65_535, 65_536]

LIVING: dict[str, tuple[bytes, Sequence[Frame]]] = {
    # 5.5.2, 5.5.3
    "ping without payload": (frame(PING), [(PONG, b"")]),
    "ping with text": (frame(PING, b"hello"), [(PONG, b"hello")]),
    "ping with binary": (
        frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        [(PONG, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
    ),
    "ping of 125 bytes": (frame(PING, b"\xfe" * 125), [(PONG, b"\xfe" * 125)]),
    "ten pings": (b"".join(frame(PING, b"%d" % n) for n in range(10)), [(PONG, b"%d" % n) for n in range(10)]),
    "unsolicited pong": (frame(PONG) + frame(TEXT, b"hi"), [ECHO]),
    "unsolicited pong with payload": (frame(PONG, b"x" * 125) + frame(TEXT, b"hi"), [ECHO]),
    "pongs and a ping": (frame(PONG, b"a") + frame(PING, b"b") + frame(PONG, b"c"), [(PONG, b"b")]),
    # 5.3
    "a key of zeros": (frame(TEXT, b"hi", key=bytes(4)), [ECHO]),
    "a key of ones": (frame(TEXT, b"hi", key=b"\xff" * 4), [ECHO]),
    # 5.4
    "two fragments": (b"".join(fragments(TEXT, b"h", b"i")), [ECHO]),
    "binary fragments": (b"".join(fragments(BINARY, b"\xff", b"\xfe", b"\xfd")), [(BINARY, b"\xff\xfe\xfd")]),
    "empty fragments": (b"".join(fragments(TEXT, b"", b"", b"")), [(TEXT, b"")]),
    "empty fragments around content": (b"".join(fragments(TEXT, b"", b"hi", b"", b"")), [ECHO]),
    "ping between fragments": (
        frame(TEXT, b"h", fin=False) + frame(PING, b"p") + frame(CONT, b"i"),
        [(PONG, b"p"), ECHO],
    ),
    "pong between fragments": (frame(TEXT, b"h", fin=False) + frame(PONG, b"p") + frame(CONT, b"i"), [ECHO]),
    "pings between many fragments": (
        b"".join(part + frame(PING, b"p") for part in fragments(TEXT, b"a", b"b", b"c", b"d", b"e")),
        [(PONG, b"p")] * 4 + [(TEXT, b"abcde"), (PONG, b"p")],
    ),
    "messages of both kinds": (
        b"".join([*fragments(BINARY, b"1", b"2"), frame(TEXT, b"hi"), *fragments(TEXT, b"3", b"4")]),
        [(BINARY, b"12"), ECHO, (TEXT, b"34")],
    ),
    # 8.1
    "text of every width": (
        frame(TEXT, "κόσμε \U0010ffff \ufffd\ue000\ud7ff\x00".encode()),
        [(TEXT, "κόσμε \U0010ffff \ufffd\ue000\ud7ff\x00".encode())],
    ),
    "code points that are no characters": (
        frame(TEXT, "\ufffe\uffff\U0001fffe".encode()),
        [(TEXT, "\ufffe\uffff\U0001fffe".encode())],
    ),
    "code points split over fragments": (
        b"".join(fragments(TEXT, *(bytes([byte]) for byte in "κ€\U0001f600".encode()))),
        [(TEXT, "κ€\U0001f600".encode())],
    ),
    "binary is not looked at": (frame(BINARY, b"\xed\xa0\x80"), [(BINARY, b"\xed\xa0\x80")]),
}

FAILING: dict[str, tuple[bytes, int]] = {
    # 5.2
    **{f"reserved bits {rsv} of a text": (frame(TEXT, b"x", rsv=rsv), PROTOCOL_ERROR) for rsv in range(1, 8)},
    **{f"reserved bits {rsv} of a ping": (frame(PING, rsv=rsv), PROTOCOL_ERROR) for rsv in (1, 2, 4)},
    "reserved bits of a close": (frame(0x8, b"\x03\xe8", rsv=1), PROTOCOL_ERROR),
    **{f"opcode {opcode}": (frame(opcode, b"x"), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"opcode {opcode} without payload": (frame(opcode), PROTOCOL_ERROR) for opcode in (3, 11)},
    "0 in two bytes": (frame(TEXT, b"", width=2), PROTOCOL_ERROR),
    "125 in two bytes": (frame(TEXT, b"x" * 125, width=2), PROTOCOL_ERROR),
    "125 in eight bytes": (frame(TEXT, b"x" * 125, width=8), PROTOCOL_ERROR),
    "126 in eight bytes": (frame(TEXT, b"x" * 126, width=8), PROTOCOL_ERROR),
    "65,535 in eight bytes": (frame(BINARY, bytes(65_535), width=8), PROTOCOL_ERROR),
    "a length with its highest bit": (b"\x82\xff\x80" + bytes(7) + KEY, PROTOCOL_ERROR),
    # 5.1
    "unmasked text": (frame(TEXT, b"x", key=None), PROTOCOL_ERROR),
    "unmasked ping": (frame(PING, key=None), PROTOCOL_ERROR),
    "unmasked and empty": (frame(TEXT, key=None), PROTOCOL_ERROR),
    # 5.4
    "continuation of nothing": (frame(CONT, b"x"), PROTOCOL_ERROR),
    "unfinished continuation of nothing": (frame(CONT, b"x", fin=False), PROTOCOL_ERROR),
    "a text within a text": (frame(TEXT, b"h", fin=False) + frame(TEXT, b"i"), PROTOCOL_ERROR),
    "an unfinished binary within a text": (
        frame(TEXT, b"h", fin=False) + frame(BINARY, b"i", fin=False),
        PROTOCOL_ERROR,
    ),
    "a text within a text after a ping": (
        frame(TEXT, b"", fin=False) + frame(PONG) + frame(TEXT, b"i"),
        PROTOCOL_ERROR,
    ),
    # 5.5
    "ping of 126 bytes": (frame(PING, b"x" * 126), PROTOCOL_ERROR),
    "pong of 126 bytes": (frame(PONG, b"x" * 126), PROTOCOL_ERROR),
    "ping of 0 in two bytes": (frame(PING, width=2), PROTOCOL_ERROR),
    "fragmented ping": (frame(PING, b"x", fin=False), PROTOCOL_ERROR),
    "fragmented pong": (frame(PONG, b"x", fin=False), PROTOCOL_ERROR),
    "fragmented close": (frame(0x8, b"\x03\xe8", fin=False), PROTOCOL_ERROR),
    # 8.1
    **{
        f"{name}": (frame(TEXT, b"a" + text), INVALID_DATA)
        for name, text in {
            "a continuation byte alone": b"\x80",
            "a first byte alone": b"\xc3",
            "an unfinished code point": "€".encode()[:2],
            "an unfinished code point and more": "€".encode()[:2] + b"x",
            "an overlong solidus": b"\xc0\xaf",
            "an overlong solidus of three": b"\xe0\x80\xaf",
            "an overlong solidus of four": b"\xf0\x80\x80\xaf",
            "an overlong zero": b"\xc0\x80",
            "a high surrogate": b"\xed\xa0\x80",
            "a low surrogate": b"\xed\xbf\xbf",
            "a pair of surrogates": b"\xed\xa0\x81\xed\xb0\x80",
            "beyond Unicode": b"\xf4\x90\x80\x80",
            "five bytes": b"\xf8\x88\x80\x80\x80",
            "six bytes": b"\xfc\x84\x80\x80\x80\x80",
            "fe": b"\xfe",
            "ff": b"\xff",
        }.items()
    },
    "no UTF-8 over fragments": (b"".join(fragments(TEXT, b"\xed", b"\xa0", b"\x80")), INVALID_DATA),
    "an unfinished code point over fragments": (b"".join(fragments(TEXT, b"\xe2", b"\x82")), INVALID_DATA),
    "no UTF-8, and a close behind it": (frame(TEXT, b"\xff") + close(), INVALID_DATA),
    "no UTF-8, twice": (frame(TEXT, b"\xff") * 2, INVALID_DATA),
}

HOPELESS: dict[str, tuple[bytes, int]] = {
    "oversized": (frame(BINARY, bytes(65_537))[:14], TOO_BIG),
    "of 2^63 - 1 bytes": (b"\x82\xff\x7f" + b"\xff" * 7, TOO_BIG),
    "a second fragment that is too much": (
        frame(BINARY, bytes(65_536), fin=False) + frame(CONT, b"x")[:2],
        TOO_BIG,
    ),
    "a ping of 64 KiB": (frame(PING, bytes(65_536))[:2], PROTOCOL_ERROR),
    "reserved bits": (frame(TEXT, bytes(60_000), rsv=4)[:2], PROTOCOL_ERROR),
    "a length that could be shorter": (frame(TEXT, b"x" * 125, width=2)[:4], PROTOCOL_ERROR),
    "an unmasked text": (frame(TEXT, bytes(60_000), key=None)[:2], PROTOCOL_ERROR),
    "no UTF-8 in a first fragment": (frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xf4\x90", fin=False), INVALID_DATA),
    "a surrogate in a first fragment": (frame(TEXT, b"\xed\xa0\x80", fin=False), INVALID_DATA),
}
"""Beginnings after which nothing can be right."""


@CHOPPED
@pytest.mark.parametrize("name", LIVING)
async def test_what_is_right_is_answered(server: EchoServer, name: str, *, chopped: bool) -> None:
    """Frames of every sort, together and in single bytes; and the connection lives until it is closed."""
    sent, expected = LIVING[name]
    async with server.opened() as peer:
        assert await answers(peer, sent, chopped=chopped) == ending(NORMAL, *expected)


@pytest.mark.parametrize("kind", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("size", LENGTHS)
async def test_messages_of_every_length_come_whole(server: EchoServer, size: int, kind: int) -> None:
    """RFC 6455, 5.2: each form of a length, up to our limit."""
    payload = (b"0123456789*" * 6000)[:size]
    async with server.opened() as peer:
        assert await answers(peer, frame(kind, payload), chopped=False) == ending(NORMAL, (kind, payload))


@ways(FAILING)
async def test_what_is_wrong_ends_the_connection(server: EchoServer, name: str, *, chopped: bool) -> None:
    """With the right code, after what was right before it."""
    sent, code = FAILING[name]
    async with server.opened() as peer:
        expected = ending(code, ECHO, (PONG, b"p"))
        assert await answers(peer, frame(TEXT, b"hi") + frame(PING, b"p") + sent, chopped=chopped) == expected


@ways(HOPELESS)
async def test_what_cannot_become_right_is_not_waited_for(server: EchoServer, name: str, *, chopped: bool) -> None:
    """The connection ends when the first bytes show it, whether or not more comes."""
    sent, code = HOPELESS[name]
    async with server.opened() as peer:
        await peer.send(sent, chopped=chopped)
        assert [frame[1][:2] for frame in await peer.frames()] == [code.to_bytes(2)]


@pytest.mark.parametrize("size", [65_537, 100_000, 8_000_000])
async def test_who_sends_too_much_learns_why(server: EchoServer, size: int) -> None:
    """1009 arrives, although the rest of the message was never read; clients that did not see it would send again."""
    async with server.opened() as peer:
        assert await answers(peer, frame(BINARY, bytes(size), key=bytes(4)), chopped=False) == ending(TOO_BIG)


@pytest.mark.parametrize("part", [1, 2, 125, 126, 1000, 32_768, 65_535])
async def test_a_message_of_64_kib_may_come_in_parts(server: EchoServer, part: int) -> None:
    """The limit counts the message, however it is cut; one byte more is too much."""
    payload = b"x" * MAX_MESSAGE
    parts = [payload[at : at + part] for at in range(0, len(payload), part)]
    whole = fragments(TEXT, *parts)
    async with server.opened() as peer, server.opened() as greedy:
        assert await answers(peer, b"".join(whole), chopped=False) == ending(NORMAL, (TEXT, payload))
        too_much = b"".join(fragments(TEXT, *parts, b"x"))
        assert await answers(greedy, too_much, chopped=False) == ending(TOO_BIG)


async def test_control_frames_do_not_count_as_parts_of_a_message(server: EchoServer) -> None:
    """RFC 6455, 5.4: a ping may come in a message that already is as large as it may be."""
    payload = b"x" * MAX_MESSAGE
    sent = frame(TEXT, payload, fin=False) + frame(PING, b"p") + frame(CONT)
    async with server.opened() as peer:
        assert await answers(peer, sent, chopped=False) == ending(NORMAL, (PONG, b"p"), (TEXT, payload))


async def test_many_messages_in_one_segment_are_answered_in_order(server: EchoServer) -> None:
    """However many come before the app takes the first."""
    async with server.opened() as peer:
        sent = b"".join(frame(TEXT, b"%d" % number) for number in range(5000))
        expected = [(TEXT, b"%d" % number) for number in range(5000)]
        assert await answers(peer, sent, chopped=False) == ending(NORMAL, *expected)


async def test_frames_that_arrive_slowly_are_read(server: EchoServer) -> None:
    """A byte now and then is slow, and no reason to fail."""
    async with server.opened() as peer:
        for byte in frame(TEXT, b"hello"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await peer.next() == (TEXT, b"hello")
