"""What REST routes read of a request's body: no more than they take, and nothing from a stranger."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from hookcast_app.body_gate import MAX_BODY_BYTES, MAX_SECRET_BYTES, MAX_SUBSCRIPTION_BYTES
from tests.support.app import API_KEY, READER_KEY, RunningApp, running_app, settings_for

KEYS = (SecretStr(Fernet.generate_key().decode()),)
MAX_EVENT_BYTES = 100_000
LIMITS = [
    ("POST", "/api/v1/webhook-subscriptions", MAX_SUBSCRIPTION_BYTES),
    ("PUT", "/api/v1/webhook-subscriptions/a", MAX_SUBSCRIPTION_BYTES),
    ("PATCH", "/api/v1/webhook-subscriptions/a", MAX_SUBSCRIPTION_BYTES),
    ("PUT", "/api/v1/secrets/a", MAX_SECRET_BYTES),
    ("POST", "/api/v1/webhook-subscriptions/a/test", MAX_EVENT_BYTES),
    ("POST", "/api/v1/channels/a/publications", MAX_EVENT_BYTES),
    ("POST", "/api/v1/webhook-subscriptions/a/replay", MAX_BODY_BYTES),
    ("POST", "/api/v1/dead-letters/replay", MAX_BODY_BYTES),
    ("GET", "/api/v1/webhook-subscriptions/a/stats", MAX_BODY_BYTES),
    ("POST", "/api/v1/unknown", MAX_BODY_BYTES),
]


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    settings = settings_for(redis_url, tmp_path, encryption_keys=KEYS, max_event_bytes=MAX_EVENT_BYTES)
    async with running_app(settings) as running:
        yield running


class Connection:
    """A raw connection on which one request is sent piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, method: str, path: str, *lines: str, key: str | None = API_KEY, content: bytes = b"") -> None:
        shown = (f"x-api-key: {key}",) if key else ()
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "host: x", "content-type: application/json", *shown, *lines))
        await self.write(f"{head}\r\n\r\n".encode() + content)

    async def write(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and content; nothing more is sent meanwhile."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
            content = await self.reader.readexactly(int(lines["content-length"]))
        return int(head.split()[1]), json.loads(content)

    async def closed(self) -> bool:
        """That the server closes; it waits a second for what is on its way."""
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


@asynccontextmanager
async def connected(app: RunningApp) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.url.rpartition(":")[2]))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


async def test_a_body_that_is_announced_as_too_large_is_not_read(app: RunningApp) -> None:
    """The answer comes before any of it is sent, says how much there may be, and ends the connection."""

    async def check(method: str, path: str, limit: int) -> None:
        async with connected(app) as connection:
            await connection.send(method, path, f"content-length: {limit + 1}")

            status, problem = await connection.answer()

            assert (status, problem["reason"]) == (413, "TooLarge"), path
            assert str(limit) in problem["detail"]
            assert await connection.closed()

    await asyncio.gather(*(check(*each) for each in LIMITS))


async def test_a_body_without_an_announced_length_is_read_up_to_the_limit(app: RunningApp) -> None:
    """Of a chunked one the answer comes once it is too large, though its sender has not ended it."""

    async def check(method: str, path: str, limit: int) -> None:
        async with connected(app) as connection:
            await connection.send(method, path, "transfer-encoding: chunked")
            for _ in range(limit // 16_384):
                await connection.write(chunk(b" " * 16_384))
            await connection.write(chunk(b" " * (limit % 16_384 + 1)))

            status, problem = await connection.answer()

            assert (status, problem["reason"]) == (413, "TooLarge"), path
            assert await connection.closed()

    await asyncio.gather(*(check(*each) for each in LIMITS))


async def test_a_body_of_just_the_limit_is_judged_by_its_route(app: RunningApp) -> None:
    """Chunked or not: whatever is wrong with it is something else; the connection goes on."""

    async def check(method: str, path: str, limit: int) -> None:
        body = b"{}" + b" " * (limit - 2)
        async with connected(app) as connection:
            for line, content in (
                (f"content-length: {limit}", body),
                ("transfer-encoding: chunked", chunk(body) + b"0\r\n\r\n"),
            ):
                await connection.send(method, path, line, content=content)

                assert (await connection.answer())[0] in {202, 404, 422}, path

    await asyncio.gather(*(check(*each) for each in LIMITS))


@pytest.mark.parametrize("key", [None, "unknown"])
@pytest.mark.parametrize("line", ["content-length: 20", "transfer-encoding: chunked"])
async def test_a_stranger_is_refused_before_his_body_is_read(app: RunningApp, line: str, key: str | None) -> None:
    """The answer comes though nothing of the body was sent."""

    async def check(method: str, path: str, _limit: int) -> None:
        async with connected(app) as connection:
            await connection.send(method, path, line, key=key)

            status, problem = await connection.answer()

            assert (status, problem["reason"]) == (401, "Unauthenticated"), path
            assert await connection.closed()

    await asyncio.gather(*(check(*each) for each in LIMITS))


async def test_who_may_only_read_is_refused(app: RunningApp) -> None:
    """As ever: with a body that is small enough."""
    async with connected(app) as connection:
        await connection.send("PUT", "/api/v1/secrets/a", "content-length: 2", key=READER_KEY, content=b"{}")

        assert (await connection.answer())[0] == 403


async def test_the_largest_secret_is_stored_however_it_is_written(app: RunningApp) -> None:
    """128 KiB of values, each byte as an escape of six characters."""
    values = {f"key{number}": "\x01" * 2_048 for number in range(64)}
    content = json.dumps({"data": values}).encode()
    assert len(content) > 131_072 * 6
    async with connected(app) as connection:
        await connection.send("PUT", "/api/v1/secrets/a", f"content-length: {len(content)}", content=content)

        status, shown = await connection.answer()

    assert (status, len(shown["keys"])) == (200, 64)


async def test_who_leaves_in_the_middle_of_a_body_does_no_harm(
    app: RunningApp, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is stored, no error is logged, and the next request is served."""
    async with connected(app) as connection:
        await connection.send("PUT", "/api/v1/secrets/a", "content-length: 50", content=b'{"data"')

    assert (await app.client.get("/api/v1/secrets")).json() == {"items": []}
    assert "Traceback" not in capsys.readouterr().out
