"""Prometheus metrics, with labels whose number is bounded: templates, outcomes and reasons, never ids or paths."""

from collections.abc import Callable, Iterable
from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from hookcast_core.errors import Reason

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ATTEMPT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_DEAD = (Reason.ATTEMPTS_EXHAUSTED, Reason.BAD_STATUS, Reason.EGRESS_DENIED, Reason.GONE)
"""Why an attempt can be the last one: what `delivery.outcome` gives with Dead."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Value = Callable[[], float]
Values = Callable[[], Iterable[tuple[str, float]]]
"""Pairs of a label's value and the number, read when Prometheus asks."""


class Metrics:
    """One process's metrics in a registry of their own; lives as long as the app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests by route template.", "route", "method", "status")
        self._request_seconds = self._histogram(
            "http_request_seconds", "Time to the end of a response.", _FAST, "route"
        )
        self._events = self._counter("events", "Events by what became of them.", "result", "reason")
        self._attempts = self._counter("delivery_attempts", "Attempts by outcome and reason.", "outcome", "reason")
        self._attempt_seconds = self._histogram("delivery_attempt_seconds", "Duration of attempts.", _ATTEMPT)
        self._lag = self._histogram("loop_lag_seconds", "How late the event loop ran a timer.", _FAST)
        self._redis = self._histogram("redis_seconds", "Round trip of a write to Redis.", _FAST)
        # What there are alerts on begins at 0: Prometheus takes the first value that it sees as no increase.
        self._events.labels("refused", Reason.UNAVAILABLE)
        for reason in _DEAD:
            self._attempts.labels("dead", reason)
        # labels() costs a microsecond and takes a lock; each combination is looked up once.
        self._event_children: dict[tuple[str, Reason | None], Counter] = {}
        self._attempt_children: dict[tuple[str, Reason | None], Counter] = {}
        self._request_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Counts one HTTP request; `route` None means that no route took it."""
        key = (route or "unmatched", method if method in _METHODS else "other", status)
        children = self._request_children.get(key)
        if children is None:
            children = (self._requests.labels(*key[:2], str(status)), self._request_seconds.labels(key[0]))
            self._request_children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def event(self, result: Literal["accepted", "duplicate", "refused"], reason: Reason | None = None) -> None:
        """Counts one published event; a refused one has its reason."""
        counter = self._event_children.get((result, reason))
        if counter is None:
            counter = self._event_children[result, reason] = self._events.labels(result, reason or "")
        counter.inc()

    def attempt(self, outcome: Literal["delivered", "later", "dead"], reason: Reason | None, seconds: float) -> None:
        """Counts one delivery attempt and its duration."""
        counter = self._attempt_children.get((outcome, reason))
        if counter is None:
            counter = self._attempt_children[outcome, reason] = self._attempts.labels(outcome, reason or "")
        counter.inc()
        self._attempt_seconds.observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        """Records how late a timer fired."""
        self._lag.observe(seconds)

    def redis_latency(self, seconds: float) -> None:
        """Records one round trip."""
        self._redis.observe(seconds)

    def gauge(self, name: str, documentation: str, value: Value) -> None:
        """A number that is read when Prometheus asks: connections, configuration age, queued bytes."""
        Gauge(f"hookcast_{name}", documentation, registry=self.registry).set_function(value)

    def sampled(
        self, kind: Literal["counter", "gauge"], name: str, documentation: str, label: str, values: Values
    ) -> None:
        """Numbers by one label that are kept elsewhere as plain ints: queue depth per place, publications, slow closes.

        The label's values must be few and known: places, transports, reasons. A counter's name gets `_total`.
        """
        self.registry.register(_Sampled(kind, f"hookcast_{name}", documentation, label, values))

    def router(self) -> APIRouter:
        """`GET /metrics`, for the admin port."""
        router = APIRouter()
        router.add_api_route("/metrics", self._expose, include_in_schema=False, response_class=Response)
        return router

    async def _expose(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": content_type})

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"hookcast_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"hookcast_{name}", documentation, labels, buckets=buckets, registry=self.registry)


class _Sampled(Collector):
    def __init__(self, kind: str, name: str, documentation: str, label: str, values: Values) -> None:
        self._family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._name = name
        self._documentation = documentation
        self._label = label
        self._values = values

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        family = self._family(self._name, self._documentation, labels=[self._label])
        for label, value in self._values():
            family.add_metric([label], value)
        return [family]

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Its name, without calling what is sampled: registering must not touch parts that are not started."""
        return [self._family(self._name, self._documentation, labels=[self._label])]
