"""Publishes at a steady rate, whatever the answers do (an open loop), each event with the time at which it was sent."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.processes import API_KEY
from benchmarks.timing_sink import percentile
from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy, parse_url

CONNECTIONS = 64
HEADERS = f"content-type: application/json\r\nx-api-key: {API_KEY}\r\n".encode()
NOTE = "x" * 200


@dataclass(frozen=True)
class Sent:
    """What the load itself reached: events a second, and by how many ms (p99) it sent later than it should have."""

    rate: float
    late_ms: float


async def publish(port: int, types: Sequence[str], rate: float, count: int) -> Sent:
    """Publishes so many events at this rate, types in turn; AssertionError if one is not accepted."""
    client = HttpClient(EgressPolicy(["127.0.0.0/8"]), connections_per_endpoint=CONNECTIONS)
    url = parse_url(f"http://127.0.0.1:{port}/api/v1/events")

    async def send(event_type: str) -> None:
        body = f'{{"type":"{event_type}","data":{{"at":{time.monotonic_ns()},"note":"{NOTE}"}}}}'.encode()
        answer = await client.post(url, HEADERS, body, timeout_ms=30_000)
        assert answer.status == 202, answer

    late: list[float] = []
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due = started + number / rate
            while (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            late.append((time.perf_counter() - due) * 1000)
            group.create_task(send(types[number % len(types)]))
        seconds = time.perf_counter() - started
    await client.close()
    return Sent(count / seconds, percentile(sorted(late), 0.99))
