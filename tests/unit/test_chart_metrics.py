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
OPERATOR: dict[str, set[str]] = {
    "hookcast_operator_publish_seconds_bucket": {"le"},
    "hookcast_operator_sequence": set(),
    "hookcast_operator_status_queue": set(),
    "hookcast_operator_api_requests_total": {"verb", "code"},
    "hookcast_operator_pods": {"state"},
    "hookcast_operator_subscriptions": {"ready"},
    "hookcast_operator_foreign_subscriptions": {"dispatcher"},
    "hookcast_operator_leading": set(),
    "hookcast_operator_watch_restarts_total": {"resource"},
    "hookcast_operator_events_total": {"type", "reason"},
}


def texts(call: ast.Call) -> list[str]:
    return [
        argument.value
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


def metrics() -> dict[str, set[str]]:
    """The app's metrics with their labels, as they are declared in its source."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "app").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                found |= declared(call.func.attr, texts(call))
    return found


def declared(method: str, given: list[str]) -> dict[str, set[str]]:
    """What one call declares: its texts are name, documentation and labels; `sampled` has the kind first."""
    if method == "sampled":
        kind, name, _, *labels = given
    elif method in {"gauge", "_counter", "_histogram"} and len(given) > 1:
        kind, (name, _, *labels) = method.strip("_"), given
    else:
        return {}
    if kind == "histogram":
        return {f"hookcast_{name}_bucket": {*labels, "le"}}
    return {f"hookcast_{name}{'_total' if kind == 'counter' else ''}": set(labels)}


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
    there = metrics() | OPERATOR

    assert sorted({name for name, _ in selectors(queries(path))} - there.keys()) == []


@pytest.mark.parametrize("path", FILES)
def test_every_label_exists(path: str) -> None:
    """A query by a label that is not there finds nothing, or sums what should be apart."""
    there = metrics() | OPERATOR

    unknown = [(name, labels - there[name] - SCRAPED) for name, labels in selectors(queries(path)) if name in there]

    assert [found for found in unknown if found[1]] == []


def test_the_operator_has_what_is_asked_of_it() -> None:
    """As soon as its source declares metrics, it declares these."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "operator").rglob("*.py"))

    if '"hookcast_operator_' in sources:
        names = {re.sub(r"_(total|bucket)$", "", name) for name in OPERATOR}
        assert sorted(name for name in names if name not in sources) == []
