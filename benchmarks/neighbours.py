"""What hanging endpoints cost the others: 100 endpoints at a steady rate, of which none, 1 or 20 never answer.

One `hookcast serve` with every role on core 0; Valkey (appendfsync always), the load and the receiver on core 1. A
hanging endpoint takes every request and answers none: each attempt lasts the whole time-out of 15 s, the default, so a
stretch has to last a good deal longer. Default settings otherwise: 16 in flight for each endpoint, and a breaker.
Stretches take turns; a ratio is to the stretch without hanging ones of the same round.
`python -m benchmarks.neighbours [--seconds 30] [--rounds 2]` prints JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

import uvloop

from benchmarks import manifests, paced
from benchmarks.processes import LOAD_CPU, SERVER_CPU, Running, hookcast, sink, valkey
from benchmarks.tables import rows
from benchmarks.timing_sink import HANGING, MODULE, answered, collect, percentile

ENDPOINTS = 100
CASES = (0, 1, 20)
AIMS = {1: "at most 2", 20: "at most 3"}
RATE = 500.0
PATIENCE = 10.0


def paths(hanging: int) -> list[str]:
    """The endpoints' paths; those that hang are spread among the others."""
    hung = set(range(0, ENDPOINTS, ENDPOINTS // hanging)) if hanging else set()
    return [f"{HANGING}{number}" if number in hung else f"/{number}" for number in range(ENDPOINTS)]


def once(hanging: int, seconds: float, rate: float) -> dict[str, float]:
    """One stretch on a fresh server and a fresh Valkey, so that nothing is left of the one before."""
    with (
        valkey(LOAD_CPU) as (_, url),
        sink(LOAD_CPU, MODULE) as receiver,
        tempfile.TemporaryDirectory() as directory,
    ):
        base = f"http://127.0.0.1:{receiver.port}"
        documents = [
            manifests.subscription(f"e{number}", f"{base}{path}", f"bench.e{number}")
            for number, path in enumerate(paths(hanging))
        ]
        manifests.write(directory, documents)
        settings = {"REDIS_URL": url, "MANIFESTS": directory, "DATA_DIR": f"{directory}/data"}
        with hookcast(SERVER_CPU, 18_450, EGRESS_ALLOW=f"127.0.0.1:{receiver.port}", **settings) as server:
            stretch(server, receiver, hanging, rate, 2 * ENDPOINTS)
            return stretch(server, receiver, hanging, rate, round(rate * seconds / ENDPOINTS) * ENDPOINTS)


def stretch(server: Running, receiver: Running, hanging: int, rate: float, count: int) -> dict[str, float]:
    """Publishes so many events to the endpoints in turn; how long those to the others were on their way."""
    types = [f"bench.e{number}" for number in range(ENDPOINTS)]
    expected = count * (ENDPOINTS - hanging) // ENDPOINTS
    sent = uvloop.run(paced.publish(server.port, types, rate, count))
    times = collect(receiver.port, expected, PATIENCE)
    others = answered(times)
    return {
        "p50_ms": percentile(others, 0.5),
        "p99_ms": percentile(others, 0.99),
        "missing": expected - len(others),
        "hung_attempts": sum(len(some) for path, some in times.items() if path.startswith(HANGING)),
        "sent_per_second": sent.rate,
        "load_late_p99_ms": sent.late_ms,
    }


def run(seconds: float = 30.0, rounds: int = 2, rate: float = RATE) -> dict[str, object]:
    """Medians of the rounds by how many hang."""
    os.sched_setaffinity(0, {LOAD_CPU})
    figures: dict[int, list[dict[str, float]]] = {hanging: [] for hanging in CASES}
    for _ in range(rounds):
        for hanging in CASES:
            row = once(hanging, seconds, rate)
            quiet = figures[0][-1] if hanging else row
            ratios = {f"{name}_ratio": row[f"{name}_ms"] / quiet[f"{name}_ms"] for name in ("p50", "p99")}
            figures[hanging].append({**row, **ratios})
    medians = {
        str(hanging): {name: round(statistics.median(one[name] for one in some), 2) for name in some[0]}
        for hanging, some in figures.items()
    }
    return {"hanging": medians, "rounds": rounds, "seconds": seconds, "rate": rate}


def table(figures: Mapping[str, Any]) -> list[str]:
    """Lines of RESULTS.md."""
    columns = ["hanging", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio", "aim", "missing", "attempts that hung"]
    return [
        "## Noisy neighbours",
        "",
        f"{figures['rate']:g} events a second over 100 endpoints, of which some hang for the time-out of 15 s; from",
        "publish to receipt at the others, and ratios to the run in which none hangs. Medians of",
        f"{figures['rounds']} rounds, each run {figures['seconds']:g} s.",
        "",
        *rows([*columns, "load late, p99 ms"], map(_cells, figures["hanging"].items())),
    ]


def _cells(case: tuple[str, Mapping[str, float]]) -> list[object]:
    hanging, row = case
    figures = [row[name] for name in ("p50_ms", "p99_ms", "p50_ratio", "p99_ratio")]
    counts = [f"{row[name]:g}" for name in ("missing", "hung_attempts")]
    return [f"{hanging} of {ENDPOINTS}", *figures, AIMS.get(int(hanging), ""), *counts, row["load_late_p99_ms"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=RATE)
    options = parser.parse_args()
    print(json.dumps(run(options.seconds, options.rounds, options.rate), indent=2))
