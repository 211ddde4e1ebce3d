"""Publishes a second, single and batched, against a raw ASGI app that only answers 202.

Server alone on core 0; Valkey (appendfsync always) and the load on core 1. The reference runs under the same uvicorn
(uvloop, httptools) with the same load in the same run, in turns.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import uvloop
from starlette.types import Receive, Scope, Send

from benchmarks.processes import API_KEY, LOAD_CPU, SERVER_CPU, Running, hookcast, is_open, process, valkey, wait_for
from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy, parse_url

CONNECTIONS = 32
EVENT = {"type": "order.created", "data": {"note": "x" * 220}}
REFERENCE_PORT = 18_430


async def reference(_scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and answers 202: what uvicorn and ASGI alone cost."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@contextlib.contextmanager
def running_reference() -> Iterator[Running]:
    """The reference on core 0."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.publish:reference", "--port", str(REFERENCE_PORT)]
    command += ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    command += ["--loop", "uvloop", "--http", "httptools"]
    with process(command, SERVER_CPU) as child:
        wait_for(lambda: is_open(REFERENCE_PORT))
        yield Running(child.pid, REFERENCE_PORT)


async def posts(server: Running, bodies: Sequence[bytes], count: int) -> tuple[float, float]:
    """(requests a second, microseconds of the server's processor time for each) over 32 connections, bodies in turn."""
    body = itertools.cycle(bodies)
    client = HttpClient(EgressPolicy(["127.0.0.0/8"]), connections_per_endpoint=CONNECTIONS)
    url = parse_url(f"http://127.0.0.1:{server.port}/api/v1/events")
    headers = f"content-type: application/json\r\nx-api-key: {API_KEY}\r\n".encode()

    async def worker(times: int) -> None:
        for _ in range(times):
            answer = await client.post(url, headers, next(body), timeout_ms=30_000)
            assert answer.status == 202, answer

    await asyncio.gather(*(worker(5) for _ in range(CONNECTIONS)))
    started, cpu = time.perf_counter(), server.cpu_seconds()
    await asyncio.gather(*(worker(count // CONNECTIONS) for _ in range(CONNECTIONS)))
    seconds, used = time.perf_counter() - started, server.cpu_seconds() - cpu
    await client.close()
    done = count // CONNECTIONS * CONNECTIONS
    return done / seconds, used / done * 1e6


def run(requests: int = 8_000, rounds: int = 3) -> dict[str, object]:
    """Medians of the rounds."""
    os.sched_setaffinity(0, {LOAD_CPU})
    single, batch = [json.dumps(EVENT).encode()], [json.dumps([EVENT] * 100).encode()]
    figures: dict[str, list[tuple[float, float]]] = {"single": [], "batch_of_100": [], "reference": []}
    with (
        valkey(LOAD_CPU) as (_, url),
        tempfile.TemporaryDirectory() as directory,
        running_reference() as bare,
        hookcast(SERVER_CPU, 18_420, ROLE="api", REDIS_URL=url, DATA_DIR=directory) as server,
    ):
        for _ in range(rounds):
            figures["reference"].append(uvloop.run(posts(bare, single, requests)))
            figures["single"].append(uvloop.run(posts(server, single, requests)))
            figures["batch_of_100"].append(uvloop.run(posts(server, batch, requests // 20)))
    return {
        name: {
            "requests_per_second": round(statistics.median(rate for rate, _ in values)),
            "cpu_us_per_request": round(statistics.median(cost for _, cost in values), 1),
        }
        for name, values in figures.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8_000)
    print(json.dumps(run(parser.parse_args().requests)))
