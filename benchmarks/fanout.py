"""Deliveries a second of one channel with 1,000 subscribers and 128 B, against a plain FastAPI `send_text` loop.

The server alone is on core 0; its subscribers, which only count bytes, and Valkey are on core 1; all over loopback. The
loop is closed: a new batch is published when all but `unfinished` publications have reached every subscriber. A
delivery is one publication received by one subscriber, and each must have received all of them at the end. Servers
take turns; medians are reported. `python -m benchmarks.fanout [--rounds 3] [--seconds 2]` prints JSON.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import cast

from redis.asyncio import Redis

from benchmarks.fanout_server import CHANNEL, DATA, PATH
from benchmarks.processes import LOAD_CPU, SERVER_CPU, Running, process, valkey
from hookcast_app.realtime import ChannelRules, Shards, encode_publication
from hookcast_app.realtime.framing import ENCODERS, Encoding, frame
from hookcast_app.redis import Servers

SUBSCRIBERS = 1_000
PATIENCE = 60.0
COMMANDS = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"%b"}}' % CHANNEL.encode()
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


@dataclass(frozen=True)
class Case:
    """What is measured: `server` and how publications reach it, so many at once, so many unfinished at most."""

    name: str
    server: str
    way: str
    batch: int
    unfinished: int


CASES = (
    Case("plain FastAPI loop, 1 at once", "naive", "http", 1, 1),
    Case("plain FastAPI loop, 20 at once", "naive", "http", 20, 20),
    Case("hub, 1 at once", "hookcast", "http", 1, 1),
    Case("hub, 20 at once", "hookcast", "http", 20, 20),
    Case("hub, 100 at once", "hookcast", "http", 100, 100),
    Case("over Redis, 20 at once", "hookcast", "redis", 20, 40),
    Case("over Redis, 100 at once", "hookcast", "redis", 100, 200),
)


class Meter:
    """What all subscribers have received, in bytes, and who waits for how much."""

    def __init__(self) -> None:
        self.total = 0
        self.wanted = 0
        self.reached = asyncio.Event()

    async def wait(self, total: int) -> None:
        """Until so many bytes have come."""
        self.wanted = total
        self.reached.clear()
        if self.total < total:
            async with asyncio.timeout(PATIENCE):
                await self.reached.wait()


class Subscriber(asyncio.BufferedProtocol):
    """Connects, subscribes, then counts. One buffer serves all: nothing is looked at."""

    shared = memoryview(bytearray(262_144))

    def __init__(self, meter: Meter, commands: bytes) -> None:
        self.meter = meter
        self.commands = commands
        self.head = b""
        self.received = -1
        self.transport: asyncio.Transport | None = None
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.write(HANDSHAKE)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's
        """For asyncio."""
        return self.shared

    def buffer_updated(self, nbytes: int) -> None:
        """For asyncio."""
        if self.received < 0:
            self._begin(bytes(self.shared[:nbytes]))
            return
        self.received += nbytes
        self.meter.total += nbytes
        if self.meter.total >= self.meter.wanted:
            self.meter.reached.set()

    def _begin(self, data: bytes) -> None:
        """Before the first publication: the handshake's answer, then those to the commands."""
        assert self.transport is not None
        self.head += data
        if self.commands and self.head.endswith(b"\r\n\r\n"):
            self.transport.write(_masked(self.commands))
            self.commands = b""
        elif not self.commands and (b'"subscribe"' in self.head or self.head.endswith(b"\r\n\r\n")):
            self.received = 0
            self.ready.set_result(None)


def _masked(text: bytes) -> bytes:
    """A client's frame; a mask of zeros leaves the text as it is."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


async def connected(port: int, meter: Meter, commands: bytes) -> list[Subscriber]:
    """All subscribers, ready."""
    loop = asyncio.get_running_loop()
    subscribers: list[Subscriber] = []
    for _ in range(SUBSCRIBERS):
        _, one = await loop.create_connection(lambda: Subscriber(meter, commands), "127.0.0.1", port)
        assert isinstance(one, Subscriber)
        await asyncio.wait_for(one.ready, PATIENCE)
        subscribers.append(one)
    return subscribers


async def by_http(port: int) -> Callable[[int], Awaitable[None]]:
    """Publishes by a POST on a connection that stays."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def publish(count: int) -> None:
        writer.write(b"POST /publish/%d HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n" % count)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))

    return publish


def by_redis(redis: Redis, servers: Servers) -> Callable[[int], Awaitable[None]]:
    """Publishes as any process of ours does."""
    payload = encode_publication(DATA)
    name = Shards(servers, ChannelRules({})).of(CHANNEL).key("pub", CHANNEL)

    async def publish(count: int) -> None:
        pipeline = redis.pipeline(transaction=False)
        for _ in range(count):
            pipeline.publish(name, payload)
        await pipeline.execute()

    return publish


async def load(case: Case, server: Running, redis_url: str, seconds: float) -> dict[str, float]:
    """Connects, publishes for so long, and says what came."""
    meter = Meter()
    idle_bytes, idle_cpu = server.resident_bytes(), server.cpu_seconds()
    subscribers = await connected(server.port, meter, b"" if case.server == "naive" else COMMANDS)
    each_connect = (server.cpu_seconds() - idle_cpu) / SUBSCRIBERS
    each_bytes = (server.resident_bytes() - idle_bytes) / SUBSCRIBERS
    redis = Redis.from_url(redis_url)
    publish = by_redis(redis, Servers(redis_url)) if case.way == "redis" else await by_http(server.port)
    encoded = ENCODERS[Encoding.FRAMES](CHANNEL, encode_publication(DATA), "")
    size = len(frame(DATA) if case.server == "naive" else encoded)

    published, cpu, start = 0, server.cpu_seconds(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        await publish(case.batch)
        published += case.batch
        await meter.wait((published - case.unfinished + case.batch) * size * SUBSCRIBERS)
    await meter.wait(published * size * SUBSCRIBERS)
    elapsed, used = time.perf_counter() - start, server.cpu_seconds() - cpu

    assert {one.received for one in subscribers} == {published * size}, "lost or doubled"
    await redis.aclose()
    deliveries = published * SUBSCRIBERS
    return {
        "deliveries_per_second": deliveries / elapsed,
        "cpu_us_per_delivery": used / deliveries * 1e6,
        "cpu_us_per_connect": each_connect * 1e6,
        "kib_per_connection": each_bytes / 1024,
    }


@contextlib.contextmanager
def serving(kind: str, redis_url: str) -> Iterator[Running]:
    """A server of benchmarks.fanout_server."""
    with process([sys.executable, "-m", "benchmarks.fanout_server", kind, redis_url], SERVER_CPU) as child:
        assert child.stdout is not None
        yield Running(child.pid, int(child.stdout.readline()))


def measure(case: Case, redis_url: str, seconds: float) -> dict[str, float]:
    """One case against a fresh server, by subscribers in a process of their own."""
    with serving(case.server, redis_url) as server:
        arguments = [case.name, str(server.pid), str(server.port), redis_url, str(seconds)]
        with process([sys.executable, "-m", "benchmarks.fanout", "--load", *arguments], LOAD_CPU) as child:
            assert child.stdout is not None
            result: dict[str, float] = json.loads(child.stdout.readline())
            return result


def run(rounds: int = 3, seconds: float = 2.0) -> list[dict[str, object]]:
    """Medians of each case, how often the plain loop's rate (20 at once) it is, and what it was measured under."""
    results: dict[str, list[dict[str, float]]] = {case.name: [] for case in CASES}
    with valkey(LOAD_CPU) as (_, redis_url):
        for _ in range(rounds):
            for case in CASES:
                results[case.name].append(measure(case, redis_url, seconds))
    medians = {
        name: {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        for name, measured in results.items()
    }
    plain = medians[CASES[1].name]["deliveries_per_second"]
    return [
        {
            "case": name,
            "subscribers": SUBSCRIBERS,
            "payload_bytes": len(DATA),
            "rounds": rounds,
            "seconds": seconds,
            **{key: round(value, 2 if "delivery" in key else None) for key, value in median.items()},
            "times_plain": round(median["deliveries_per_second"] / plain, 1),
            "uvicorn": version("uvicorn"),
            "python": platform.python_version(),
        }
        for name, median in medians.items()
    ]


def _load(name: str, pid: str, port: str, redis_url: str, seconds: str) -> None:
    import uvloop  # noqa: PLC0415  of the subscribers' process alone

    case = next(case for case in CASES if case.name == name)
    print(json.dumps(uvloop.run(load(case, Running(int(pid), int(port)), redis_url, float(seconds)))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        _load(*options.load)
    else:
        print(json.dumps(run(options.rounds, options.seconds), indent=2))
