"""From publish to receipt, one fast endpoint, at a steady rate of single events.

One `hookcast serve` with every role on core 0; Valkey (appendfsync always), the load and the receiver on core 1. The
clock runs from just before an event is sent to the arrival of its webhook. `python -m benchmarks.latency` prints JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop

from benchmarks import manifests, paced
from benchmarks.processes import LOAD_CPU, SERVER_CPU, Running, hookcast, sink, valkey
from benchmarks.tables import rows
from benchmarks.timing_sink import MODULE, answered, collect, percentile

RATES = (500, 200)
AIMS = {500: "p50 below 5 ms, p99 below 25 ms"}
WARM_UP = 200
PATIENCE = 10.0


def measured(server: Running, receiver: Running, rate: int, seconds: float) -> dict[str, float]:
    """One stretch at one rate."""
    count = round(rate * seconds)
    cpu = server.cpu_seconds()
    sent = uvloop.run(paced.publish(server.port, ["bench.one"], rate, count))
    times = answered(collect(receiver.port, count, PATIENCE))
    return {
        "p50_ms": percentile(times, 0.5),
        "p99_ms": percentile(times, 0.99),
        "max_ms": times[-1],
        "missing": count - len(times),
        "sent_per_second": sent.rate,
        "load_late_p99_ms": sent.late_ms,
        "cpu_us_per_event": (server.cpu_seconds() - cpu) / count * 1e6,
    }


def run(seconds: float = 10.0, rounds: int = 3, rates: Sequence[int] = RATES) -> dict[str, object]:
    """Medians of the rounds by rate; the rates take turns."""
    os.sched_setaffinity(0, {LOAD_CPU})
    figures: dict[int, list[dict[str, float]]] = {rate: [] for rate in rates}
    with (
        valkey(LOAD_CPU) as (_, url),
        sink(LOAD_CPU, MODULE) as receiver,
        tempfile.TemporaryDirectory() as directory,
    ):
        manifests.write(
            directory, [manifests.subscription("one", f"http://127.0.0.1:{receiver.port}/one", "bench.one")]
        )
        settings = {"REDIS_URL": url, "MANIFESTS": directory, "DATA_DIR": f"{directory}/data"}
        with hookcast(SERVER_CPU, 18_440, EGRESS_ALLOW=f"127.0.0.1:{receiver.port}", **settings) as server:
            measured(server, receiver, 100, WARM_UP / 100)
            for _ in range(rounds):
                for rate in rates:
                    figures[rate].append(measured(server, receiver, rate, seconds))
    medians = {
        str(rate): {name: round(statistics.median(one[name] for one in some), 2) for name in some[0]}
        for rate, some in figures.items()
    }
    return {"rates": medians, "rounds": rounds, "seconds": seconds}


def table(figures: Mapping[str, Any]) -> list[str]:
    """Lines of RESULTS.md."""
    columns = ["events a second", "p50 ms", "p99 ms", "slowest ms", "missing", "load late, p99 ms", "CPU µs an event"]
    names = ("p50_ms", "p99_ms", "max_ms", "missing", "load_late_p99_ms", "cpu_us_per_event")
    cells = [
        [rate, *(f"{row[name]:g}" for name in names), AIMS.get(int(rate), "")] for rate, row in figures["rates"].items()
    ]
    return [
        "## Latency",
        "",
        "Publish to receipt, single events of 256 B at a steady rate to one endpoint, every role in one server;",
        f"medians of {figures['rounds']} stretches of {figures['seconds']:g} s.",
        "",
        *rows([*columns, "aim"], cells),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(run(options.seconds, options.rounds), indent=2))
