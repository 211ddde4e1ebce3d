"""Deliveries a second, durable and signed: a backlog is published first, then one dispatcher drains it.

Dispatcher alone on core 0; Valkey (appendfsync always) and the receiving sink on core 1. In the same run, on the same
cores, our bare HTTP client and pyreqwest post bodies of the same size to the same sink.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request

from benchmarks import manifests
from benchmarks.manifests import subscription
from benchmarks.processes import API_KEY, LOAD_CPU, ROOT, SERVER_CPU, Running, hookcast, sink, valkey

BATCH = 500
BODY_BYTES = 256


def publish(port: int, types: list[str], count: int, batch: int = BATCH) -> None:
    """Publishes `count` events in batches, types in turn."""
    for first in range(0, count, batch):
        events = [
            {"type": types[number % len(types)], "data": "x" * BODY_BYTES}
            for number in range(first, min(first + batch, count))
        ]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/events",
            json.dumps(events).encode(),
            {"content-type": "application/json", "x-api-key": API_KEY},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202


def counted(port: int) -> int:
    """Requests that the sink got since it was last asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts", timeout=10) as answer:
        return sum(json.loads(answer.read()).values())


def drain(endpoints: int, count: int, in_flight: int) -> dict[str, float]:
    """Publishes a backlog and lets a dispatcher drain it; what it reached."""
    names = [f"e{number}" for number in range(endpoints)]
    with valkey(LOAD_CPU) as (redis, url), sink(LOAD_CPU) as receiver, tempfile.TemporaryDirectory() as directory:
        base = f"http://127.0.0.1:{receiver.port}"
        manifests.write(
            directory,
            [subscription(name, f"{base}/{name}", f"bench.{name}", in_flight=in_flight) for name in names],
        )
        settings = {
            "REDIS_URL": url,
            "MANIFESTS": directory,
            "DATA_DIR": f"{directory}/data",
            "EGRESS_ALLOW": f"127.0.0.1:{receiver.port}",
        }
        with hookcast(SERVER_CPU, 18_400, ROLE="api", **settings) as api:
            publish(api.port, [f"bench.{name}" for name in names], count)
        with hookcast(SERVER_CPU, 18_410, ROLE="dispatcher", **settings) as dispatcher:
            return measured(dispatcher, redis, receiver, count)


def measured(dispatcher: Running, redis: Running, receiver: Running, count: int) -> dict[str, float]:
    """Waits until everything arrived; the rate from the first to the last delivery that was seen."""
    started, cpu, redis_cpu = time.perf_counter(), dispatcher.cpu_seconds(), redis.cpu_seconds()
    first = arrived = counted(receiver.port)
    while arrived < count:
        time.sleep(0.05)
        arrived += counted(receiver.port)
        if time.perf_counter() - started > 120:
            raise TimeoutError(f"{arrived} of {count} arrived")
    seconds = time.perf_counter() - started
    done = arrived - first
    return {
        "deliveries_per_second": round(done / seconds),
        "cpu_us_per_delivery": round((dispatcher.cpu_seconds() - cpu) / done * 1e6, 1),
        "redis_us_per_delivery": round((redis.cpu_seconds() - redis_cpu) / done * 1e6, 1),
        "duplicates": arrived - count,
        "resident_mib": round(dispatcher.resident_bytes() / 1_048_576),
    }


def run(count: int = 60_000) -> dict[str, object]:
    """The figures of one run."""
    one = drain(1, count, 64)
    hundred = drain(100, count, 16)
    command = [sys.executable, "-m", "benchmarks.http_client", "--rounds", "3"]  # pins itself and its sink
    bare = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return {"one_endpoint": one, "hundred_endpoints": hundred, "bare": json.loads(bare.stdout)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--endpoints", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(drain(arguments.endpoints, arguments.count, 64 if arguments.endpoints == 1 else 16)))
