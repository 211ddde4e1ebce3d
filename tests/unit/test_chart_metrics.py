"""The chart's alerts and dashboard ask for metrics that there are, by labels that these have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hookcast"
FILES = ("files/dashboard.json", "templates/prometheusrule.yaml", "templates/scaling.yaml")
SCRAPED = {"namespace", "service", "pod"}
"""What Prometheus itself adds to each."""
KINDS = {"gauge": "gauge", "gauges": "gauge", "_counter": "counter", "_histogram": "histogram"}
"""What the methods of the two Metrics declare, and below prometheus_client's own classes."""


def metrics() -> dict[str, set[str]]:
    """The metrics of app and operator with their labels, as they are declared in the source."""
    found: dict[str, set[str]] = {}
    for side, prefix in (("app", "hookcast_"), ("operator", "hookcast_operator_")):
        for path in (ROOT / side).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call):
                    found |= declared(call, prefix)
    return found


def declared(call: ast.Call, prefix: str) -> dict[str, set[str]]:
    """What one call declares: its texts are name, documentation and labels; `sampled` has the kind first."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = list(texts(call.args))
    kind = KINDS.get(method) or (method.lower() if method in {"Counter", "Gauge", "Histogram"} else None)
    if method == "sampled":
        kind, *given = given
    if kind is None or len(given) < 2:
        return {}
    name, _, *labels = given
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}[kind]
    return {f"{prefix}{name}{suffix}": {*labels, *(["le"] if kind == "histogram" else [])}}


def texts(arguments: list[ast.expr]) -> Iterator[str]:
    """The arguments that are texts; of f"{PREFIX}name" what comes after the prefix."""
    for argument in arguments:
        if isinstance(argument, ast.JoinedStr):
            yield from texts(argument.values)
        elif isinstance(argument, ast.List):
            yield from texts(argument.elts)
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def queries(path: str) -> str:
    """A file's text, with something plain in place of what templates fill in."""
    text = (CHART / path).read_text(encoding="utf-8").replace('\\"', '"')
    return re.sub(r"\{\{-? \$\w+ -?\}\}", 'namespace="n"', text)


def selectors(text: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric and the labels by which it is selected or summed."""
    for name, matchers in re.findall(r"\b(hookcast_\w+)(\{[^}]*\})?", text):
        yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
    for labels, name in re.findall(r"by \(([^)]*)\) \((?:rate|increase)?\(?(hookcast_\w+)", text):
        yield name, {label.strip() for label in labels.split(",")}


@pytest.mark.parametrize("path", FILES)
def test_every_metric_exists(path: str) -> None:
    """An alert on a metric that is not there never fires."""
    there = metrics()

    assert sorted({name for name, _ in selectors(queries(path))} - there.keys()) == []


@pytest.mark.parametrize("path", FILES)
def test_every_label_exists(path: str) -> None:
    """A query by a label that is not there finds nothing, or sums what should be apart."""
    there = metrics()

    unknown = [(name, labels - there[name] - SCRAPED) for name, labels in selectors(queries(path)) if name in there]

    assert [found for found in unknown if found[1]] == []
