"""What a growing number of subscriptions costs where the same number of them matches each event.

10, 1,000 and 10,000 subscriptions, of which 10 match each event: each ten have an event type of their own, and each
subscription a filter of its own, which holds. Events of all types are published in turn to an `api` process alone on
core 0; Valkey (appendfsync always) and the load are on core 1. `python -m benchmarks.growth [--sizes 10 1000 10000]`
prints JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence

import uvloop

from benchmarks import manifests
from benchmarks.processes import API_KEY, LOAD_CPU, SERVER_CPU, Running, hookcast, valkey
from benchmarks.publish import posts
from benchmarks.tables import rows

SIZES = (10, 1_000, 10_000)
MATCHING = 10
BATCH = 100
NOTE = "x" * 200
PATIENCE = 120.0


def documents(size: int) -> list[str]:
    """So many subscriptions; the receiver is never asked, since nothing is delivered here."""
    return [
        manifests.subscription(
            f"s{number}",
            f"http://127.0.0.1:9/{number}",
            f"bench.t{number // MATCHING}",
            expression=f"data.amount < {1_000_000 + number}",
        )
        for number in range(size)
    ]


def event(number: int) -> dict[str, object]:
    """An event of 256 B."""
    return {"type": f"bench.t{number}", "data": {"amount": number, "note": NOTE}}


def bodies(size: int) -> tuple[list[bytes], list[bytes]]:
    """Requests with one event each, and with batches, that go through all event types."""
    types = size // MATCHING
    single = [json.dumps(event(number)).encode() for number in range(types)]
    batches = [[event(number % types) for number in range(first, first + BATCH)] for first in range(0, types, BATCH)]
    return single, [json.dumps(batch).encode() for batch in batches]


def measured(server: Running, size: int, requests: int, rounds: int) -> dict[str, float]:
    """Medians of the rounds: events a second, and microseconds of processor time an event."""
    single, batched = bodies(size)
    singles = [uvloop.run(posts(server, single, requests)) for _ in range(rounds)]
    batches = [uvloop.run(posts(server, batched, requests // 20)) for _ in range(rounds)]
    return {
        "single_events_per_second": round(statistics.median(rate for rate, _ in singles)),
        "single_cpu_us_per_event": round(statistics.median(cost for _, cost in singles), 1),
        "batch_events_per_second": round(statistics.median(rate for rate, _ in batches) * BATCH),
        "batch_cpu_us_per_event": round(statistics.median(cost for _, cost in batches) / BATCH, 1),
    }


def matched(port: int) -> int:
    """How many subscriptions an event matches."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/events",
        json.dumps(event(0)).encode(),
        {"content-type": "application/json", "x-api-key": API_KEY},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.loads(answer.read())["matched"])


def once(size: int, requests: int, rounds: int) -> dict[str, float]:
    """One size: from the start of the process on."""
    with valkey(LOAD_CPU) as (_, url), tempfile.TemporaryDirectory() as directory:
        manifests.write(directory, documents(size))
        settings = {"REDIS_URL": url, "MANIFESTS": directory, "DATA_DIR": f"{directory}/data"}
        settings |= {"ROLE": "api", "EGRESS_ALLOW": "127.0.0.1:9"}
        started = time.perf_counter()
        with hookcast(SERVER_CPU, 18_480, PATIENCE, **settings) as server:
            assert matched(server.port) == MATCHING
            start = {"ready_seconds": round(time.perf_counter() - started, 2), "resident_mib": _mib(server)}
            return {**start, **measured(server, size, requests, rounds), "resident_mib_after": _mib(server)}


def run(sizes: Sequence[int] = SIZES, requests: int = 6_000, rounds: int = 3) -> dict[str, dict[str, float]]:
    """The figures by size."""
    os.sched_setaffinity(0, {LOAD_CPU})
    return {str(size): once(size, requests, rounds) for size in sizes}


def table(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of RESULTS.md."""
    columns = ["subscriptions", "events a second, single", "CPU µs each", "in batches of 100", "CPU µs each"]
    return [
        "## Growth",
        "",
        "Subscriptions from manifest files, each with a filter of its own, of which 10 match each event;",
        "32 connections publish events of 256 B. Their 10 deliveries are stored, and fsynced, but not sent.",
        "",
        *rows([*columns, "ready after s", "resident MiB when ready", "afterwards"], map(_cells, figures.items())),
    ]


def _cells(case: tuple[str, Mapping[str, float]]) -> list[object]:
    size, row = case
    names = ("events_per_second", "cpu_us_per_event")
    publishing = [row[f"{way}_{name}"] for way in ("single", "batch") for name in names]
    rest = [row[name] for name in ("ready_seconds", "resident_mib", "resident_mib_after")]
    return [f"{int(size):,}", *(f"{one:,}" for one in publishing), *rest]


def _mib(server: Running) -> int:
    return round(server.resident_bytes() / 1_048_576)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(run(options.sizes, options.requests, options.rounds), indent=2))
