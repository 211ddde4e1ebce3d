"""Subscribers that stop reading, at full load: what it costs the others, what memory it takes, and how they come back.

`python -m benchmarks.slow [--seconds 6]` prints JSON. 1,000 subscribers of one channel (1 KiB, with a history); the
server alone is on core 0, subscribers and Valkey on core 1. Batches are published through Redis as fast as the others
receive. Turns without and with 50 who stop reading alternate; the latter last until the server has closed the 50, which
then read again, find 3008 and subscribe from where they were.
"""

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from typing import Any, cast

from benchmarks.fanout import HANDSHAKE
from benchmarks.processes import API_KEY, LOAD_CPU, SERVER_CPU, Running, hookcast, valkey

SUBSCRIBERS, SLOW = 1_000, 50
BATCH, UNFINISHED = 20, 3
PORT = 18_400
CHANNEL = "bench"
NAMESPACES = '{"": {"subscribe": "anyone", "history_size": 10000, "recover": true}}'
PATIENCE = 60.0
_OPEN = 'hookcast_realtime_connections{transport="websocket"}'


class Subscriber(asyncio.Protocol):
    """Counts publications by their number; can stop reading, and comes back from where it was."""

    def __init__(self, news: asyncio.Event) -> None:
        self.news = news
        self.offset = 0
        self.epoch = ""
        self.code = 0
        self.is_recovered: bool | None = None
        self.is_ready = asyncio.Event()
        self.is_gone = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self._buffer.clear()
        self._is_open = False
        self.is_gone.clear()
        self.transport.write(HANDSHAKE)

    def connection_lost(self, _error: Exception | None) -> None:
        """For asyncio."""
        self.is_gone.set()

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        self._buffer += data
        if not self._is_open:
            if b"\r\n\r\n" not in self._buffer:
                return
            del self._buffer[: self._buffer.index(b"\r\n\r\n") + 4]
            self._is_open = True
            self._subscribe()
        self._take_frames()
        self.news.set()

    def _subscribe(self) -> None:
        assert self.transport is not None
        since = {"recover": True, "epoch": self.epoch, "offset": self.offset} if self.epoch else {}
        lines = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": CHANNEL, **since}}]
        text = "\n".join(map(json.dumps, lines)).encode()
        head = bytes((0x81, 0x80 | len(text))) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2)
        self.transport.write(head + b"\0\0\0\0" + text)

    def _take_frames(self) -> None:
        """RFC 6455, 5.2, as a server sends."""
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2:
            size, start = buffer[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(buffer[at + 2 : at + 2 + width]), at + 2 + width
            if len(buffer) < start + size:
                break
            self._take(buffer[at] & 15, bytes(buffer[start : start + size]))
            at = start + size
        del buffer[:at]

    def _take(self, opcode: int, payload: bytes) -> None:
        assert self.transport is not None
        if opcode == 8:
            self.code = int.from_bytes(payload[:2])
            self.transport.close()
        elif payload.startswith(b'{"push":{"channel":"bench","pub":{"offset":'):
            offset = int(payload[43 : payload.index(b",", 43)])
            assert offset == self.offset + 1, "lost or doubled"
            self.offset = offset
        elif payload == b"{}":
            self.transport.write(b"\x81\x82\x00\x00\x00\x00{}")
        else:
            self._take_replies(payload)

    def _take_replies(self, payload: bytes) -> None:
        for line in payload.split(b"\n"):
            result = json.loads(line).get("subscribe")
            if result is not None:
                self.epoch = result["epoch"]
                self.is_recovered = result.get("recovered")
                given = result.get("publications", [])
                self.offset = given[-1]["offset"] if given else result.get("offset", 0)
                self.is_ready.set()


async def publisher() -> Any:
    """Publishes a batch by the server API."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    commands = [{"publish": {"channel": CHANNEL, "data": "x" * 1022}}] * BATCH
    body = json.dumps({"commands": commands}).encode()
    head = f"POST /api/batch HTTP/1.1\r\nHost: b\r\nX-API-Key: {API_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def publish() -> None:
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))

    return publish


def open_connections() -> float:
    """How many WebSockets the server has."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT + 1}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(_OPEN)))


async def turn(
    publish: Any, healthy: list[Subscriber], news: asyncio.Event, seconds: float, connections: int = SUBSCRIBERS
) -> float:
    """Publishes for so long, and until the server has so many left; returns deliveries a second to those who read."""
    before, start, published = healthy[0].offset, time.perf_counter(), 0
    while time.perf_counter() - start < seconds or await asyncio.to_thread(open_connections) > connections:
        if time.perf_counter() - start > PATIENCE:
            raise TimeoutError("those who do not read are not closed")
        await publish()
        published += BATCH
        async with asyncio.timeout(PATIENCE):
            while min(one.offset for one in healthy) < before + published - UNFINISHED * BATCH:
                news.clear()
                await news.wait()
    async with asyncio.timeout(PATIENCE):
        while min(one.offset for one in healthy) < before + published:
            news.clear()
            await news.wait()
    return published * len(healthy) / (time.perf_counter() - start)


async def connect(one: Subscriber) -> None:
    """Until it is subscribed."""
    one.is_ready.clear()
    await asyncio.get_running_loop().create_connection(lambda: one, "127.0.0.1", PORT)
    await asyncio.wait_for(one.is_ready.wait(), PATIENCE)


async def come_back(slow: list[Subscriber]) -> None:
    """Reads again, finds out that it was closed, and subscribes from where it was."""
    for one in slow:
        assert one.transport is not None
        one.transport.resume_reading()
    for one in slow:
        await asyncio.wait_for(one.is_gone.wait(), PATIENCE)
        await connect(one)


async def load(server: Running, seconds: float) -> dict[str, object]:
    """Alternates turns without and with slow ones."""
    news = asyncio.Event()
    everybody = [Subscriber(news) for _ in range(SUBSCRIBERS)]
    for one in everybody:
        await connect(one)
    slow, healthy = everybody[:SLOW], everybody[SLOW:]
    publish = await publisher()
    await turn(publish, everybody, news, seconds)
    rates: dict[str, list[float]] = {"without": [], "with": []}
    closes: dict[int, int] = {}
    recovered, resident, highest = 0, server.resident_bytes(), 0
    for _ in range(3):
        rates["without"].append(await turn(publish, healthy, news, seconds))
        for one in slow:
            assert one.transport is not None
            one.transport.pause_reading()
        rates["with"].append(await turn(publish, healthy, news, seconds, len(healthy)))
        highest = max(highest, server.resident_bytes())
        await come_back(slow)
        for one in slow:
            closes[one.code] = closes.get(one.code, 0) + 1
            recovered += one.is_recovered is True
    without, with_slow = (statistics.median(rates[name]) for name in ("without", "with"))
    return {
        "subscribers": SUBSCRIBERS,
        "stopped_reading": SLOW,
        "deliveries_per_second_without": round(without),
        "deliveries_per_second_with": round(with_slow),
        "drop": f"{1 - with_slow / without:.1%}",
        "closes_by_code": closes,
        "recovered": recovered,
        "mib_more_at_most": round((highest - resident) / 2**20, 1),
    }


def run(seconds: float = 6.0) -> dict[str, object]:
    """Measures with a server of its own."""
    settings = {"REALTIME_ANONYMOUS": "true", "CHANNEL_NAMESPACES": NAMESPACES, "ROLE": "api"}
    with (
        valkey(LOAD_CPU) as (_, redis_url),
        hookcast(SERVER_CPU, PORT, REDIS_URL=redis_url, **settings) as server,
    ):
        return asyncio.run(load(server, seconds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    print(json.dumps(run(parser.parse_args().seconds), indent=2))
