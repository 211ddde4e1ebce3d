"""Runs every benchmark and writes benchmarks/RESULTS.md: `python -m benchmarks`.

Where there is a reference it is measured in the same run, both pinned; read the ratios, not the absolute figures. Each
is also a command of its own (`python -m benchmarks.latency -h`), with smaller counts for a look. All take a quarter of
an hour.
"""

import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import backlog, delivery, fanout, growth, latency, neighbours, peers, publish

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    """Measures one after the other, prints the figures of each as JSON, and writes the tables."""
    sections: list[tuple[str, Callable[[], Any], Callable[[Any], list[str]]]] = [
        ("delivery", delivery.run, delivery_table),
        ("publish", publish.run, publish_table),
        ("peers", peers.run, peers.table),
        ("latency", latency.run, latency.table),
        ("neighbours", neighbours.run, neighbours.table),
        ("backlog", backlog.run, backlog.table),
        ("growth", growth.run, growth.table),
        ("fanout", fanout.run, fan_table),
    ]
    lines = heading()
    for name, measure, table in sections:
        figures = measure()
        print(json.dumps({name: figures}, indent=2), flush=True)
        lines += table(figures)
    RESULTS.write_text("\n".join(lines))


def heading() -> list[str]:
    """What was measured, where and how."""
    day = datetime.now(UTC).date().isoformat()
    return [
        "# Measured",
        "",
        f"Written by `make bench` on {day}; Python {platform.python_version()}, {platform.machine()}.",
        "Server pinned to core 0, load and Valkey (`appendfsync always`) to core 1 unless a section says otherwise,",
        "loopback only. Compare ratios: absolute figures change with the machine.",
        "",
    ]


def delivery_table(figures: Mapping[str, Any]) -> list[str]:
    """Deliveries, durable and signed, against clients that only post."""
    bare, other = figures["bare"]["hookcast"], figures["bare"]["pyreqwest"]
    rows = [
        ("dispatcher, 1 endpoint", figures["one_endpoint"]),
        ("dispatcher, 100 endpoints", figures["hundred_endpoints"]),
    ]
    lines = [
        "## Deliveries",
        "",
        "A backlog of 60,000 events of 256 B is drained by one dispatcher. The references post bodies of 600 B and do",
        "nothing else: no Redis, no signature, no outcome.",
        "",
        "| | a second | CPU µs each | Redis µs each | of the bare client | of pyreqwest |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows:
        rate = row["deliveries_per_second"]
        ratio, theirs = rate / bare["posts_per_second"], rate / other["posts_per_second"]
        lines.append(
            f"| {name} | {rate:,} | {row['cpu_us_per_delivery']} | {row['redis_us_per_delivery']} "
            f"| {ratio:.0%} | {theirs:.0%} |"
        )
    for name, row in (("our bare HTTP client", bare), ("pyreqwest", other)):
        lines.append(f"| {name} | {row['posts_per_second']:,} | {row['cpu_us_per_post']} | | | |")
    return [*lines, ""]


def publish_table(figures: Mapping[str, Any]) -> list[str]:
    """Publishes over HTTP against an ASGI app that only answers 202."""
    reference = figures["reference"]["requests_per_second"]
    lines = [
        "## Publishes",
        "",
        "32 connections, events of 256 B; a 202 means stored and fsynced. Reference: uvicorn, raw ASGI app.",
        "",
        "| | requests a second | events a second | CPU µs a request | of the reference |",
        "|---|---|---|---|---|",
    ]
    for name, events in (("single", 1), ("batch_of_100", 100), ("reference", 0)):
        row = figures[name]
        rate = row["requests_per_second"]
        ratio = f"{rate / reference:.0%}" if name == "single" else ""
        total = f"{rate * events:,}" if events else ""
        lines.append(f"| {name.replace('_', ' ')} | {rate:,} | {total} | {row['cpu_us_per_request']} | {ratio} |")
    return [*lines, ""]


def fan_table(figures: list[dict[str, Any]]) -> list[str]:
    """Fan-out against a plain FastAPI loop."""
    names = list(dict.fromkeys(name for row in figures for name in row if name != "conditions"))
    lines = ["## Fan-out", "", "One channel, 1,000 WebSocket subscribers, 128 B.", ""]
    lines += ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + "---|" * len(names)]
    for row in figures:
        cells = [row.get(name, "") for name in names]
        if any(cells):
            shown = [f"{cell:,}" if isinstance(cell, int | float) else str(cell) for cell in cells]
            lines.append("| " + " | ".join(shown) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
