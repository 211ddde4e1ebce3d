"""What the operator counts, for Prometheus; every operator has a registry of its own."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "hookcast_operator_"
Samples = Callable[[], Iterable[tuple[str, float]]]


class Metrics:
    """Lives as long as the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}api_requests", "Requests to the API server.", ["verb", "code"], registry=self.registry
        )
        self._publish = Histogram(
            f"{PREFIX}publish_seconds",
            "From the start of a compilation to its being stored, where something new was.",
            registry=self.registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._restarts = Counter(
            f"{PREFIX}watch_restarts", "Watches that began anew with a list.", ["resource"], registry=self.registry
        )
        self._events = Counter(f"{PREFIX}events", "Events that were told.", ["type", "reason"], registry=self.registry)

    def request(self, verb: str, code: str) -> None:
        """A request was answered, or was not: then the code is the error's name."""
        self._requests.labels(verb, code).inc()

    def published(self, seconds: float) -> None:
        """Something new was stored."""
        self._publish.observe(seconds)

    def watch_restarted(self, resource: str) -> None:
        """A watch began anew with a list."""
        self._restarts.labels(resource).inc()

    def told(self, kind: str, reason: str) -> None:
        """An Event was told."""
        self._events.labels(kind, reason).inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        Gauge(f"{PREFIX}{name}", text, registry=self.registry).set_function(read)

    def gauges(self, name: str, text: str, label: str, read: Samples) -> None:
        """Numbers by label, read when they are asked for."""
        self.registry.register(_Sampled(name, text, label, read))


class _Sampled(Collector):
    def __init__(self, name: str, text: str, label: str, read: Samples) -> None:
        self._name = f"{PREFIX}{name}"
        self._text = text
        self._label = label
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(self._name, self._text, labels=[self._label])]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._read():
            family.add_metric([value], number)
        return [family]
