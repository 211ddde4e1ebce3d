"""Fixtures of the tests of RFC 6455: our server, and that nothing is left of a connection or told of it in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.websocket import CLOSE, EchoServer, Frame, Peer, close, echoing


@pytest_asyncio.fixture
async def server(caplog: pytest.LogCaptureFixture) -> AsyncIterator[EchoServer]:
    """A server; whatever a peer did, its connection is freed and nobody is warned."""
    async with echoing() as running:
        yield running
    told = [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    assert [record.getMessage() for record in told] == []


def ending(code: int, *before: Frame) -> list[Frame]:
    """What a peer sees at last: some frames, and a close frame with that code, whatever its text."""
    return [*before, (CLOSE, code.to_bytes(2))]


def shortened(frames: list[Frame]) -> list[Frame]:
    """Frames with the close frame's text cut off."""
    return [(opcode, payload[:2] if opcode == CLOSE else payload) for opcode, payload in frames]


async def answers(peer: Peer, sent: bytes, *, chopped: bool) -> list[Frame]:
    """What a peer gets for frames and a close frame after them, until the server ends the connection."""
    sending = asyncio.create_task(peer.send(sent + close(), chopped=chopped))
    seen = await peer.frames()
    await sending
    return shortened(seen)
