"""Memory and the event loop's lag over a long time with clients that come and go.

`python -m benchmarks.soak [--minutes 60] [--connections 2000] [--churn 20]` prints JSON: a sample each half minute, and
what they come to. The server alone is on core 0, clients and Valkey on core 1; all over loopback. Each client listens
on three of a hundred channels with histories, where 50 publications a second are published; `churn` of them a second
leave, half of them without a close frame, and are followed by others.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import cast

from benchmarks.fanout import HANDSHAKE
from benchmarks.processes import API_KEY, LOAD_CPU, SERVER_CPU, Running, hookcast, valkey

CHANNELS, CHANNELS_EACH = 100, 3
PUBLISHED_A_SECOND = 50
SAMPLE_SECONDS = 30.0
PORT = 18_300
NAMESPACES = '{"": {"subscribe": "anyone", "history_size": 100, "recover": true}}'
_PONG = b"\x81\x82\x00\x00\x00\x00{}"
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


class Client(asyncio.Protocol):
    """Connects, subscribes, answers pings, and counts what comes."""

    received = 0

    def __init__(self, commands: bytes, population: set["Client"]) -> None:
        self._commands = commands
        self._population = population
        self._buffer = bytearray()
        self._is_open = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self._population.add(self)
        self.transport.write(HANDSHAKE)

    def connection_lost(self, _error: Exception | None) -> None:
        """For asyncio."""
        self._population.discard(self)

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        assert self.transport is not None
        self._buffer += data
        if not self._is_open:
            _, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            self._is_open = True
            self._buffer = bytearray(rest)
            self.transport.write(self._commands)
        for payload in self._payloads():
            Client.received += 1
            if payload == b"{}":
                self.transport.write(_PONG)

    def _payloads(self) -> Iterator[bytes]:
        """Whole frames, of fewer than 65,536 bytes (RFC 6455, 5.2)."""
        while len(self._buffer) >= 2:
            size, start = self._buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4]), 4
            if len(self._buffer) < start + size:
                return
            payload = bytes(self._buffer[start : start + size])
            del self._buffer[: start + size]
            yield payload

    def leave(self, *, politely: bool) -> None:
        """Goes, with a close frame or without."""
        assert self.transport is not None
        if politely:
            self.transport.write(_CLOSE)
            self.transport.close()
        else:
            self.transport.abort()


def commands(chosen: list[int]) -> bytes:
    """The first message: connect, and subscribe to these channels."""
    lines = ['{"id":1,"connect":{}}']
    lines += [f'{{"id":{n},"subscribe":{{"channel":"c{channel}"}}}}' for n, channel in enumerate(chosen, 2)]
    text = "\n".join(lines).encode()
    assert 126 <= len(text) < 65_536
    return b"\x81\xfe" + len(text).to_bytes(2) + b"\0\0\0\0" + text


async def keep(connections: int, churn: float, population: set[Client]) -> None:
    """Comes to so many clients, and from then on replaces `churn` of them a second."""
    loop, chance = asyncio.get_running_loop(), random.Random(1)  # noqa: S311  which channels, no secret
    while True:
        while len(population) < connections:
            message = commands(chance.sample(range(CHANNELS), CHANNELS_EACH))
            await loop.create_connection(partial(Client, message, population), "127.0.0.1", PORT)
        await asyncio.sleep(1 / churn)
        chance.choice(list(population)).leave(politely=chance.random() < 0.5)


async def publish() -> None:
    """At a steady rate, by the server API."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    number = 0
    while True:
        await asyncio.sleep(1 / PUBLISHED_A_SECOND)
        body = json.dumps({"channel": f"c{number % CHANNELS}", "data": "x" * 128}).encode()
        head = f"POST /api/publish HTTP/1.1\r\nHost: b\r\nX-API-Key: {API_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        number += 1


def lags() -> dict[float, float]:
    """How many beats of the loop were late by at most so many seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT + 1}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    buckets = [line for line in lines if line.startswith("hookcast_loop_lag_seconds_bucket")]
    return {float(line.split('le="')[1].split('"')[0]): float(line.rsplit(" ", 1)[1]) for line in buckets}


def p99(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound in seconds beneath which 99 of 100 beats were."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in after}
    return min(bound for bound, count in counts.items() if count >= 0.99 * max(counts.values()))


async def soak(server: Running, minutes: float, connections: int, churn: float) -> dict[str, object]:
    """Keeps it up for so long, and says what was seen."""
    population: set[Client] = set()
    samples: list[dict[str, float]] = []
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(keep(connections, churn, population)), tasks.create_task(publish())]
        while len(population) < connections:
            await asyncio.sleep(0.1)
        first, began = await asyncio.to_thread(lags), time.monotonic()
        while time.monotonic() - began < minutes * 60:
            await asyncio.sleep(min(SAMPLE_SECONDS, minutes * 6))
            samples.append(
                {
                    "minute": round((time.monotonic() - began) / 60, 1),
                    "connections": len(population),
                    "resident_mib": round(server.resident_bytes() / 2**20, 1),
                    "received": Client.received,
                }
            )
        lag = p99(first, await asyncio.to_thread(lags))
        for task in running:
            task.cancel()
    later = samples[len(samples) // 3 :]
    times, sizes = ([each[name] for each in later] for name in ("minute", "resident_mib"))
    slope = statistics.linear_regression(times, sizes).slope
    return {
        "minutes": minutes,
        "connections": connections,
        "churn_per_second": churn,
        "received": Client.received,
        "resident_mib_first_and_last": [later[0]["resident_mib"], later[-1]["resident_mib"]],
        "mib_per_hour_of_the_last_two_thirds": round(slope * 60, 2),
        "loop_lag_p99_at_most_ms": lag * 1000,
        "samples": samples,
    }


def run(minutes: float = 60.0, connections: int = 2_000, churn: float = 20.0) -> dict[str, object]:
    """Measures with a server of its own."""
    settings = {"REALTIME_ANONYMOUS": "true", "CHANNEL_NAMESPACES": NAMESPACES, "ROLE": "api"}
    with (
        valkey(LOAD_CPU) as (_, redis_url),
        hookcast(SERVER_CPU, PORT, REDIS_URL=redis_url, **settings) as server,
    ):
        return asyncio.run(soak(server, minutes, connections, churn))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--churn", type=float, default=20.0)
    options = parser.parse_args()
    print(json.dumps(run(options.minutes, options.connections, options.churn), indent=2))
