"""The reader of HTTP answers takes every shape of one, in pieces of any size, and is bounded whatever comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.outgoing.response import (
    HEAD_BYTES,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_WIRE_BYTES,
    InvalidResponse,
    ResponseReader,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, sizes: list[int] | None = None) -> ResponseReader:
    """Feed a new reader with `data` in pieces of the sizes, the last as long as it takes, until it is complete."""
    reader = ResponseReader()
    start = 0
    for size in itertools.chain(sizes or [], [len(data)]):
        piece = data[start : start + size]
        start += size
        if piece and reader.feed(piece):
            break
    return reader


def test_an_answer_has_its_status_and_the_head_of_its_body() -> None:
    """A plain answer is complete with its last byte, and the connection stays usable."""
    reader = read(OK)

    assert (reader.complete, reader.status, reader.head, reader.keep_alive) == (True, 200, b"ok", True)
    assert reader.retry_after is None


def test_an_answer_is_not_complete_before_its_last_byte() -> None:
    """Nothing is concluded from a part."""
    assert not read(OK[:-1]).complete
    assert not read(OK[:20]).complete


@pytest.mark.parametrize(
    ("answer", "status", "head", "keep_alive"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", 302, b"", True),
        (b"HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n", 599, b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (CHUNKED + b"1;x=y\r\no\r\n1\r\nk\r\n0\r\nTrailer: 1\r\n\r\n", 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
            200,
            b"\x1f\x8b\x08",
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, 200, b"ok", True),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_every_shape_of_an_answer_is_read_in_pieces_of_any_size(
    answer: bytes, status: int, head: bytes, size: int, *, keep_alive: bool
) -> None:
    """Where the network cuts an answer makes no difference."""
    reader = read(answer, [size] * len(answer))

    assert (reader.complete, reader.status, reader.head, reader.keep_alive) == (True, status, head, keep_alive)


def test_answers_follow_each_other_on_a_connection() -> None:
    """Nothing of one answer is left in the next."""
    reader = read(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy")
    reader.begin()

    assert (reader.status, reader.retry_after, reader.head, reader.complete) == (0, None, b"", False)
    assert reader.feed(OK)
    assert (reader.status, reader.retry_after, reader.head, reader.keep_alive) == (200, None, b"ok", True)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"Retry-After: 120\r\n", "120"),
        (b"retry-after:  Fri, 31 Dec 1999 23:59:59 GMT \r\n", "Fri, 31 Dec 1999 23:59:59 GMT"),
        (b"RETRY-AFTER: caf\xe9\r\n", "café"),
        (b"x: y\r\n", None),
    ],
)
def test_retry_after_is_kept_as_it_was_sent(lines: bytes, expected: str | None) -> None:
    """Whoever decides when to try again gets the header's own text."""
    reader = read(b"HTTP/1.1 503 Busy\r\n" + lines + b"Content-Length: 0\r\n\r\n")

    assert reader.retry_after == expected


def test_a_header_of_an_interim_answer_or_a_trailer_is_not_the_answers() -> None:
    """Only the head of the final answer says when to try again."""
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n"

    assert read(interim + OK).retry_after is None
    assert read(CHUNKED + b"0\r\nRetry-After: 1\r\n\r\n").retry_after is None


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\npart", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\npart", True),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\npart", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", False),
        (CHUNKED + b"4\r\npart\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"", False),
    ],
)
def test_the_end_of_the_connection_completes_only_an_answer_of_unknown_length(answer: bytes, *, ends: bool) -> None:
    """An answer that was cut short is none; one that lasts until the end of the connection is whole."""
    reader = read(answer)

    assert not reader.complete
    assert reader.end() is ends
    assert not reader.keep_alive


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00",
        b"hello\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
    ],
)
def test_what_is_no_answer_is_refused(garbage: bytes) -> None:
    """A port that speaks something else, or an answer to nothing we asked for, is told apart from a failure."""
    with pytest.raises(InvalidResponse):
        read(garbage)


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", OK[:30], b"\x00\x01"])
@pytest.mark.parametrize("connection", [b"", b"Connection: close\r\n"])
def test_bytes_after_an_answer_leave_it_whole_and_the_connection_unusable(surplus: bytes, connection: bytes) -> None:
    """An answer that nobody asked for never becomes the next request's."""
    reader = read(b"HTTP/1.1 200 OK\r\n" + connection + b"Content-Length: 2\r\nRetry-After: 1\r\n\r\nok" + surplus)

    assert (reader.complete, reader.status, reader.head, reader.retry_after) == (True, 200, b"ok", "1")
    assert not reader.keep_alive


# Bounds


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 " + b"O" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"\r\n" * 50_000,
    ],
)
@pytest.mark.parametrize("size", [100, 65_536])
def test_what_comes_before_the_body_is_bounded(endless: bytes, size: int) -> None:
    """Neither headers nor interim answers without end keep us reading."""
    reader = ResponseReader()
    pieces = [endless[start : start + size] for start in range(0, len(endless), size)]

    with pytest.raises(InvalidResponse, match="more than"):
        [reader.feed(piece) for piece in pieces]


def test_a_head_over_the_bound_is_refused_also_when_it_comes_at_once() -> None:
    """The bound does not depend on how much the network delivers at a time."""
    with pytest.raises(InvalidResponse, match="more than"):
        read(b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEADER_BYTES + b"\r\ncontent-length: 0\r\n\r\n")


def test_a_head_just_under_the_bound_is_read() -> None:
    """Large cookies and policies are no reason to fail."""
    assert read(b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEADER_BYTES - 200) + b"\r\ncontent-length: 0\r\n\r\n").complete


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_of_a_long_body_the_status_counts_and_the_rest_is_not_read(size: int) -> None:
    """An endpoint that answers with a film has answered."""
    body = b"abcd" * (MAX_BODY_BYTES // 2)
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, [size] * 1_000)

    assert (reader.complete, reader.status, reader.head) == (True, 200, b"abcd" * (HEAD_BYTES // 4))
    assert not reader.keep_alive


def test_a_body_of_the_longest_size_keeps_the_connection() -> None:
    """The bound is on what is longer."""
    body = b"a" * MAX_BODY_BYTES
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, [1_000] * 100)

    assert (reader.complete, reader.keep_alive, len(reader.head)) == (True, True, HEAD_BYTES)


@pytest.mark.parametrize(
    "endless",
    [
        CHUNKED + b"1\r\na\r\n" * MAX_WIRE_BYTES,
        CHUNKED + b"1;" + b"x" * (2 * MAX_WIRE_BYTES),
        CHUNKED + b"0\r\n" + b"x: y\r\n" * MAX_WIRE_BYTES,
        CHUNKED + b"0\r\nx: " + b"y" * (2 * MAX_WIRE_BYTES),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * (2 * MAX_WIRE_BYTES),
    ],
)
def test_the_framing_of_a_body_is_bounded_too(endless: bytes) -> None:
    """Chunk extensions, tiny chunks and trailers without end do not keep us reading."""
    reader = ResponseReader()
    fed = 0
    for start in range(0, len(endless), 1_000):
        fed += 1_000
        if reader.feed(endless[start : start + 1_000]):
            break

    assert (reader.complete, reader.status, reader.keep_alive) == (True, 200, False)
    assert fed <= MAX_WIRE_BYTES + 1_000


@given(st.lists(st.sampled_from([OK, CHUNKED, b"\r\n", b"HTTP/1.1 1", b"00 C\r\n", b"2\r\nok\r\n0\r\n", b"\xff"])))
def test_any_bytes_are_an_answer_or_are_refused(pieces: list[bytes]) -> None:
    """Nothing that an endpoint sends raises anything else."""
    reader = ResponseReader()
    try:
        complete = any(reader.feed(piece) for piece in pieces)
    except InvalidResponse:
        return

    assert complete is reader.complete
    assert not complete or 200 <= reader.status <= 599


@given(st.binary(max_size=200), st.lists(st.integers(1, 50)))
def test_any_body_is_read_the_same_in_any_pieces(body: bytes, sizes: list[int]) -> None:
    """Content and network do not touch each other."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reader = read(answer, sizes)

    assert (reader.complete, reader.head, reader.keep_alive) == (True, body, True)
