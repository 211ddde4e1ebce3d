"""Our outgoing client and pyreqwest, posting the same signed 600-byte body to the same sink.

The client is pinned to one processor and the sink to another; the two take turns, and medians are reported.
`python -m benchmarks.http_client [--posts 20000] [--rounds 5] [--in-flight 32]` prints JSON: posts a second, and
microseconds of the client's processor time (all its threads) for each post.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import uvloop
from pyreqwest.client import ClientBuilder

from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy, parse_url

Post = Callable[[], Awaitable[int]]
"""Posts once; the status."""

BODY = json.dumps({"specversion": "1.0", "type": "order.created", "data": {"note": "x" * 531}}).encode()
HEADERS = {
    "content-type": "application/cloudevents+json",
    "webhook-id": "msg_abcdefghijklmnopqrstuvwxyz",
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    "user-agent": "Hookcast/0.1.0",
}


@dataclass(frozen=True)
class Round:
    """What one client did in one round."""

    posts_per_second: float
    cpu_us_per_post: float


@contextlib.contextmanager
def running_sink(cpu: int) -> Iterator[int]:
    """Run the sink in a process of its own; its port."""
    command = [sys.executable, "-m", "benchmarks.sink", "--cpu", str(cpu)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def measure(post: Post, posts: int, in_flight: int) -> Round:
    """Post so often, so many at a time."""

    async def worker(count: int) -> None:
        for _ in range(count):
            status = await post()
            assert status == 200, status

    each = posts // in_flight
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(each) for _ in range(in_flight)))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    done = each * in_flight
    return Round(done / seconds, cpu_seconds / done * 1e6)


async def compare(port: int, posts: int, rounds: int, in_flight: int) -> dict[str, list[Round]]:
    """Measure both in turns, after a warm-up of each."""
    ours = HttpClient(EgressPolicy([f"127.0.0.1:{port}"]))
    url = parse_url(f"http://127.0.0.1:{port}/hooks")
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in HEADERS.items())

    async with ClientBuilder().max_connections(in_flight).no_proxy().build() as theirs:

        async def post_ours() -> int:
            return (await ours.post(url, lines, BODY, timeout_ms=15_000)).status

        async def post_theirs() -> int:
            answer = await theirs.post(str(url)).headers(HEADERS).body_bytes(BODY).build().send()
            return answer.status

        results: dict[str, list[Round]] = {"hookcast": [], "pyreqwest": []}
        for post in (post_ours, post_theirs):
            await measure(post, in_flight * 50, in_flight)
        for _ in range(rounds):
            results["hookcast"].append(await measure(post_ours, posts, in_flight))
            results["pyreqwest"].append(await measure(post_theirs, posts, in_flight))
    await ours.close()
    return results


def report(results: dict[str, list[Round]], conditions: dict[str, object]) -> dict[str, object]:
    """Medians of each, and what they were measured under."""
    medians = {
        name: {
            "posts_per_second": round(statistics.median(one.posts_per_second for one in rounds)),
            "cpu_us_per_post": round(statistics.median(one.cpu_us_per_post for one in rounds), 1),
        }
        for name, rounds in results.items()
    }
    return {**medians, "conditions": conditions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--client-cpu", type=int, default=0)
    parser.add_argument("--sink-cpu", type=int, default=1)
    options = parser.parse_args()
    with running_sink(options.sink_cpu) as port:
        # Before any thread starts: pyreqwest's threads inherit it.
        os.sched_setaffinity(0, {options.client_cpu})
        results = uvloop.run(compare(port, options.posts, options.rounds, options.in_flight))
    conditions: dict[str, object] = {
        **vars(options),
        "body_bytes": len(BODY),
        "python": platform.python_version(),
        "pyreqwest": version("pyreqwest"),
        "httptools": version("httptools"),
        "uvloop": version("uvloop"),
    }
    print(json.dumps(report(results, conditions), indent=2))


if __name__ == "__main__":
    main()
