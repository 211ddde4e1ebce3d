"""When frames reach a transport: each at once, those of one tick together, all of them in order."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.writing import SHARED_BYTES, FrameWriter


class Transport:
    """Keeps what is written; says that it is full, if it is, after the next write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        """As asyncio's."""
        self.written.append(data)
        self.on_write()


def writer() -> tuple[FrameWriter, list[bytes]]:
    """A writer, and what its transport has got."""
    transport = Transport()
    return FrameWriter(cast("asyncio.Transport", transport)), transport.written


async def test_answers_of_one_tick_are_one_write() -> None:
    """At its end."""
    frames, written = writer()
    frames.write_soon(b"1")
    frames.write_soon(b"2")
    assert written == []
    await asyncio.sleep(0)
    assert written == [b"12"]


async def test_what_is_written_behind_an_answer_comes_behind_it() -> None:
    """A publication, a pong, and what is written once the tick is over."""
    frames, written = writer()
    frames.write_raw(b"0")
    frames.write_soon(b"1")
    frames.write_raw(b"2")
    frames._write_pong(b"3")
    await asyncio.sleep(0)
    frames.write_raw(b"4")
    assert written == [b"0", b"123", b"4"]


async def test_large_answers_do_not_wait_for_one_another() -> None:
    """However many a tick has, they are not heaped up."""
    frames, written = writer()
    frames.write_soon(b"1")
    frames.write_soon(b"x" * SHARED_BYTES)
    assert written == [b"1" + b"x" * SHARED_BYTES]
    frames.write_soon(b"2")
    await asyncio.sleep(0)
    assert written[1:] == [b"2"]


async def test_a_large_publication_behind_an_answer_makes_nobody_slow() -> None:
    """One that alone is more than may wait."""
    frames, written = writer()
    frames.on_overflow = lambda: pytest.fail("nobody is slow")
    frames.write_soon(b"1")
    frames.write_raw(b"x" * (MAX_QUEUED + 1))
    await asyncio.sleep(0)
    assert b"".join(written) == b"1" + b"x" * (MAX_QUEUED + 1)


async def test_while_the_transport_is_full_everything_waits_in_order() -> None:
    """Answers too; the latest pong goes first, for it belongs to no message."""
    frames, written = writer()
    frames.write_soon(b"1")
    frames.pause_writing()
    frames.write_raw(b"2")
    frames.write_soon(b"3")
    frames._write_pong(b"p")
    await asyncio.sleep(0)
    assert written == []
    frames.resume_writing()
    frames.write_raw(b"4")
    assert written == [b"p123", b"4"]


async def test_what_makes_the_transport_full_holds_the_rest_back() -> None:
    """It may be the write of what had waited."""
    frames, written = writer()
    cast("Transport", frames._transport).on_write = frames.pause_writing
    frames.write_soon(b"1")
    await asyncio.sleep(0)
    frames.write_raw(b"2")
    assert written == [b"1"]


async def test_who_does_not_read_is_reported_once_more_than_may_wait_does() -> None:
    """It is dropped."""
    frames, written = writer()
    told: list[None] = []
    frames.on_overflow = lambda: told.append(None)
    frames.pause_writing()
    for _ in range(17):
        frames.write_raw(b"x" * (MAX_QUEUED // 16))
    assert told == [None]
    frames.resume_writing()
    assert written == []


async def test_nothing_follows_the_last_word() -> None:
    """What waited comes before it."""
    frames, written = writer()
    frames.write_soon(b"1")
    frames._write_last(b"2")
    frames.write_raw(b"3")
    frames.write_soon(b"4")
    frames.resume_writing()
    await asyncio.sleep(0)
    assert written == [b"1", b"2"]


async def test_whoever_waits_for_room_goes_on_at_the_end_as_well() -> None:
    """A transport that is lost while it is full never has room again."""
    frames, _ = writer()
    frames.pause_writing()
    waiting = [asyncio.create_task(frames._has_room()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    frames.connection_lost(None)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
