"""What a client's bytes are read as; the cases of RFC 6455 are tests/integration/realtime/test_wire_*.py."""

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.realtime.incoming import Event, Fragment, FrameReader, Received, Violation
from tests.support.websocket import BINARY, fragments, frame

LIMIT = 65_536


def events(*segments: bytes) -> list[Event | tuple[int, str]]:
    """All events of bytes that come in segments, a violation as its code and reason."""
    reader, seen = FrameReader(LIMIT), list[Event | tuple[int, str]]()
    try:
        for segment in segments:
            reader.feed(segment)
            while (event := reader.next()) is not None:
                seen.append(event)
    except Violation as violation:
        seen.append((violation.code, violation.reason))
    return seen


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_it_does_not_matter_how_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    """Whatever they are, frames or none."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    segments = [data[start:end] for start, end in itertools.pairwise(places)]

    assert events(*segments) == events(data)


def test_nothing_is_kept_of_what_was_taken() -> None:
    """A client that is silent from then on costs no more than one that never spoke."""
    reader = FrameReader(LIMIT)
    reader.feed(frame(BINARY, bytes(LIMIT)))
    before = reader.has_more
    assert reader.next() == Received(bytes(LIMIT))
    assert (before, reader.has_more, bytes(reader._bytes)) == (True, False, b"")


@given(st.lists(st.binary(max_size=200), min_size=1))
def test_a_message_is_the_sum_of_its_fragments(parts: list[bytes]) -> None:
    """In any number, of any size."""
    *before, last = events(*fragments(BINARY, *parts))

    assert last == Received(b"".join(parts))
    assert len(before) == len(parts) - 1


def test_single_bytes_take_time_in_proportion() -> None:
    """16 times as many take about 16 times as long, not 256 times; together or one by one."""

    def seconds(size: int, *, together: bool) -> float:
        frames = fragments(BINARY, *[b"x"] * size, b"")
        segments = [b"".join(frames)] if together else frames
        began = time.process_time()
        assert events(*segments).count(Fragment()) == size
        return time.process_time() - began

    for together in (True, False):
        few, many = (min(seconds(size, together=together) for _ in range(3)) for size in (4_000, 64_000))
        assert many < few * 64
