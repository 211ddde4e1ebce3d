"""A backlog of a million deliveries drains: how fast and in how much memory, tenth by tenth, and what Redis holds.

Published first by an `api` process, then drained by one dispatcher; either is alone on core 0, Valkey (appendfsync
always) and the receiver on core 1. Bytes a delivery are differences of Valkey's `used_memory`, with nothing running.
`python -m benchmarks.backlog [--events 10000] [--subscriptions 100]` prints JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from redis import Redis

from benchmarks import delivery, manifests
from benchmarks.processes import LOAD_CPU, SERVER_CPU, Running, hookcast, sink, valkey
from benchmarks.tables import rows

BATCH = 1_000
PARTS = 10
PATIENCE = 60.0
IN_FLIGHT = 16
PART_NAMES = ("deliveries_per_second", "cpu_us_per_delivery", "resident_mib")
HELD_NAMES = ("bytes_per_waiting", "bytes_per_delivered", "published_per_second", "duplicates")


@dataclass(frozen=True)
class Sample:
    """Where the drain stands: deliveries that arrived, seconds and processor seconds so far, and memory now."""

    arrived: int
    seconds: float
    cpu: float
    resident_bytes: int


def used_memory(url: str) -> int:
    """What Valkey says that it uses, in bytes."""
    with Redis.from_url(url) as redis:
        return int(redis.info("memory")["used_memory"])


def samples(dispatcher: Running, receiver: Running, count: int) -> Iterator[Sample]:
    """One at the first delivery that is seen, then one at each tenth; TimeoutError if the next does not come."""
    started, arrived, part, last = time.perf_counter(), 0, 0, 0.0
    while part <= PARTS:
        arrived += delivery.counted(receiver.port)
        seconds = time.perf_counter() - started
        if arrived and arrived * PARTS >= part * count:
            yield Sample(arrived, seconds, dispatcher.cpu_seconds(), dispatcher.resident_bytes())
            part, last = arrived * PARTS // count + 1, seconds
        if seconds - last > PATIENCE:
            raise TimeoutError(f"{arrived} of {count} arrived")
        time.sleep(0.05)


def tenths(taken: list[Sample]) -> list[dict[str, float]]:
    """What each stretch between two samples was like."""
    return [
        {
            "deliveries_per_second": round((after.arrived - before.arrived) / (after.seconds - before.seconds)),
            "cpu_us_per_delivery": round((after.cpu - before.cpu) / (after.arrived - before.arrived) * 1e6, 1),
            "resident_mib": round(after.resident_bytes / 1_048_576, 1),
        }
        for before, after in pairwise(taken)
    ]


def drain(subscriptions: int, events: int) -> dict[str, object]:
    """Publishes events that each go to all subscriptions, lets a dispatcher drain them, and says what was seen."""
    count = subscriptions * events
    with valkey(LOAD_CPU) as (_, url), sink(LOAD_CPU) as receiver, tempfile.TemporaryDirectory() as directory:
        base = f"http://127.0.0.1:{receiver.port}"
        documents = [
            manifests.subscription(f"e{number}", f"{base}/{number}", "bench.all", in_flight=IN_FLIGHT)
            for number in range(subscriptions)
        ]
        manifests.write(directory, documents)
        settings = {"REDIS_URL": url, "MANIFESTS": directory, "DATA_DIR": f"{directory}/data"}
        settings["EGRESS_ALLOW"] = f"127.0.0.1:{receiver.port}"
        with hookcast(SERVER_CPU, 18_460, ROLE="api", **settings) as api:
            empty, started = used_memory(url), time.perf_counter()
            delivery.publish(api.port, ["bench.all"], events, BATCH)
            publishing = time.perf_counter() - started
        waiting = used_memory(url)
        with hookcast(SERVER_CPU, 18_470, ROLE="dispatcher", **settings) as dispatcher:
            taken = list(samples(dispatcher, receiver, count))
        settled = used_memory(url)
    first, last = taken[0], taken[-1]
    done = last.arrived - first.arrived
    return {
        "subscriptions": subscriptions,
        "events": events,
        "published_per_second": round(count / publishing),
        "deliveries_per_second": round(done / (last.seconds - first.seconds)),
        "cpu_us_per_delivery": round((last.cpu - first.cpu) / done * 1e6, 1),
        "duplicates": last.arrived - count,
        "redis_empty_mib": round(empty / 1_048_576, 1),
        "bytes_per_waiting": round((waiting - empty) / count),
        "bytes_per_delivered": round((settled - empty) / count),
        "tenths": tenths(taken),
    }


def run(events: int = 10_000, subscriptions: int = 100) -> dict[str, Any]:
    """The drain, and what Redis holds where each event has one delivery only."""
    os.sched_setaffinity(0, {LOAD_CPU})
    return {"many": drain(subscriptions, events), "single": drain(1, events)}


def table(figures: Mapping[str, Any]) -> list[str]:
    """Lines of RESULTS.md."""
    many = figures["many"]
    parts = [[part[name] for name in PART_NAMES] for part in many["tenths"]]
    spread = [f"{max(values) / min(values):.2f}" for values in zip(*parts, strict=True)]
    held = [
        [f"{row['subscriptions']} an event", *(f"{row[name]:,}" for name in HELD_NAMES)]
        for row in (many, figures["single"])
    ]
    return [
        "## A backlog",
        "",
        f"{many['events']:,} events of 256 B to {many['subscriptions']} subscriptions each, drained by one dispatcher;",
        "memory is that at the end of each tenth.",
        "",
        *rows(
            ["tenth", "deliveries a second", "CPU µs each", "resident MiB"],
            [
                *([number, *(f"{value:,}" for value in part)] for number, part in enumerate(parts, 1)),
                ["all", f"{many['deliveries_per_second']:,}", many["cpu_us_per_delivery"], ""],
                ["largest / smallest", *spread],
            ],
        ),
        "What Valkey holds more than before, for each delivery:",
        "",
        *rows(["deliveries", "bytes while it waits", "bytes once delivered", "stored a second", "sent twice"], held),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--subscriptions", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(run(options.events, options.subscriptions), indent=2))
