"""As other senders of webhooks were measured: the server and its Redis on one core, single-event publishes.

Server and Valkey (appendfsync always) on core 0; `hookload`, which publishes over 32 connections, receives, and checks
signatures, on core 1. It is not part of this project: the environment variable HOOKLOAD names the program, else it is
looked for on the PATH, and without it nothing is measured. Events carry 256 B. Deliveries a second are counted from the
first publish to the last receipt. `python -m benchmarks.peers [--rounds 3] [--events 20000]` prints JSON.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import manifests
from benchmarks.processes import API_KEY, LOAD_CPU, SERVER_CPU, hookcast, valkey
from benchmarks.tables import rows

ENDPOINTS = 10
PACE = 200
PATIENCE = 120
PEERS = (
    ("Svix 1.100, Redis queue", "640", "2,040", "1.9 / 7.3", "1.7; 0.46"),
    ("Outpost 1.2, concurrency 64", "974", "1,370", "33 / 127", "1.02; 0.72"),
)
"""As the columns of the table: each its best, measured in the same way on a machine of the same kind on 2026-11-21; the
CPU is that of the server, its queue and its database together."""


@dataclass(frozen=True)
class Case:
    """How hookload is called: so many events of a type that goes to so many endpoints; rate 0 is as fast as it can."""

    name: str
    event_type: str
    events: int
    endpoints: int = 1
    rate: int = 0


def cases(events: int) -> list[Case]:
    """The three; as many deliveries to one endpoint as to ten."""
    return [
        Case("one", "bench.one", events),
        Case("ten", "bench.ten", events // ENDPOINTS, ENDPOINTS),
        Case("paced", "bench.one", min(events, PACE * 10), rate=PACE),
    ]


def hookload() -> str | None:
    """The program, if there is one."""
    return shutil.which(os.environ.get("HOOKLOAD", "hookload"))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def documents(port: int) -> list[str]:
    """One subscription to one type of event, ten to another; the number that ends a URL is how hookload counts."""
    base = f"http://127.0.0.1:{port}/e"
    many = [
        manifests.subscription(f"ten-{number}", f"{base}/{number}", "bench.ten") for number in range(1, ENDPOINTS + 1)
    ]
    return [manifests.subscription("one", f"{base}/1", "bench.one", in_flight=64), *many]


def once(program: str, case: Case, sink_port: int, port: int, pids: str) -> dict[str, float]:
    """One run of hookload; AssertionError if anything was lost, refused or badly signed."""
    command = ["taskset", "-c", str(LOAD_CPU), program, "run", "-listen", f"127.0.0.1:{sink_port}"]
    command += ["-url", f"http://127.0.0.1:{port}/api/v1/events", "-H", f"X-API-Key: {API_KEY}"]
    command += ["-body", f'{{"type":"{case.event_type}","data":%P%}}', "-secret", manifests.SECRET, "-pids", pids]
    command += ["-events", str(case.events), "-endpoints", str(case.endpoints), "-rate", str(case.rate)]
    command += ["-wait", f"{PATIENCE}s"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=2 * PATIENCE)
    found = json.loads(done.stdout)
    signatures = found["signatures"]
    assert found["lost"] == found["ingest_errors"] == signatures["bad"] == signatures["missing"] == 0, found
    assert signatures["checked_ok"] > 0, found
    return {
        "deliveries_per_second": found["delivered_per_s"],
        "acknowledged_per_second": found["acks_per_s"],
        "p50_ms": found["e2e_ms"]["p50"],
        "p99_ms": found["e2e_ms"]["p99"],
        "duplicates": found["duplicates"],
        "server_cpu_ms_per_delivery": found["cpu_server"]["ms_per_delivery"],
        "redis_cpu_ms_per_delivery": found["cpu_redis"]["ms_per_delivery"],
        "others_cpu_percent": found["others_cpu_pct"],
    }


def run(rounds: int = 3, events: int = 20_000) -> dict[str, dict[str, float]] | None:
    """Medians by case, which take turns; None without hookload."""
    program = hookload()
    if program is None:
        return None
    figures: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases(events)}
    sink_port = free_port()
    with valkey(SERVER_CPU) as (redis, url), tempfile.TemporaryDirectory() as directory:
        manifests.write(directory, documents(sink_port))
        settings = {"REDIS_URL": url, "MANIFESTS": directory, "DATA_DIR": f"{directory}/data"}
        settings["EGRESS_ALLOW"] = f"127.0.0.1:{sink_port}"
        with hookcast(SERVER_CPU, 18_490, **settings) as server:
            pids = f"server={server.pid},redis={redis.pid}"
            for _ in range(rounds):
                for case in cases(events):
                    figures[case.name].append(once(program, case, sink_port, server.port, pids))
    return {
        name: {key: round(statistics.median(one[key] for one in some), 3) for key in some[0]}
        for name, some in figures.items()
    }


def table(figures: Mapping[str, Any] | None) -> list[str]:
    """Lines of RESULTS.md."""
    lines = [
        "## Beside other senders",
        "",
        "Here the server and its Redis share core 0; `hookload` on core 1 publishes single events of 256 B over 32",
        "connections, receives and checks signatures. The peers were measured so on a machine of the same kind.",
        "",
    ]
    if figures is None:
        return [*lines, "Not measured: no `hookload` (set HOOKLOAD to the program, or put it on the PATH).", ""]
    columns = ["sender", "one endpoint, deliveries a second", "ten endpoints", "200 events a second, p50 / p99 ms"]
    return [*lines, *rows([*columns, "CPU ms each, server and Redis (one; ten)"], [_cells(figures), *PEERS])]


def _cells(figures: Mapping[str, Mapping[str, float]]) -> list[object]:
    one, ten, paced = (figures[name] for name in ("one", "ten", "paced"))
    rates = [f"{row['deliveries_per_second']:,.0f}" for row in (one, ten)]
    costs = [f"{row['server_cpu_ms_per_delivery']} + {row['redis_cpu_ms_per_delivery']}" for row in (one, ten)]
    return ["Hookcast", *rates, f"{paced['p50_ms']:.1f} / {paced['p99_ms']:.1f}", "; ".join(costs)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    print(json.dumps(run(options.rounds, options.events), indent=2))
