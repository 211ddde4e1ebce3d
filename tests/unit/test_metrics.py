"""Metrics: right names, bounded labels, a scrape that both formats understand."""

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hookcast_app.delivery.outcome import Dead, after_attempt
from hookcast_app.observability import Metrics
from hookcast_app.outgoing import Answer, AttemptFailed
from hookcast_core.errors import Reason
from hookcast_core.subscription import Retry


async def scrape(metrics: Metrics, accept: str = "") -> httpx.Response:
    """What Prometheus gets."""
    app = FastAPI()
    app.include_router(metrics.router())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get("/metrics", headers={"accept": accept})


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return metrics.registry.get_sample_value(f"hookcast_{name}", labels)


def test_requests_are_counted_by_template_method_and_status() -> None:
    """Paths that no route took and made-up methods share one label each: their number is the client's to choose."""
    metrics = Metrics()

    for path in ("/events/{id}", "/events/{id}", None):
        metrics.request(path, "GET", 200, 0.002)
    metrics.request(None, "BREW", 404, 0.1)

    assert value(metrics, "http_requests_total", route="/events/{id}", method="GET", status="200") == 2
    assert value(metrics, "http_requests_total", route="unmatched", method="GET", status="200") == 1
    assert value(metrics, "http_requests_total", route="unmatched", method="other", status="404") == 1
    assert value(metrics, "http_request_seconds_count", route="unmatched") == 2


def test_events_and_attempts_are_counted_by_outcome_and_reason() -> None:
    """The same words as in the API and the logs."""
    metrics = Metrics()

    metrics.event("accepted")
    metrics.event("refused", Reason.INVALID_EVENT)
    metrics.attempt("delivered", None, 0.01)
    metrics.attempt("later", Reason.CONNECT_TIMEOUT, 10)
    metrics.loop_lag(0.5)
    metrics.redis_latency(0.001)

    assert value(metrics, "events_total", result="accepted", reason="") == 1
    assert value(metrics, "events_total", result="refused", reason="InvalidEvent") == 1
    assert value(metrics, "delivery_attempts_total", outcome="later", reason="ConnectTimeout") == 1
    assert value(metrics, "delivery_attempt_seconds_count") == 2
    assert value(metrics, "loop_lag_seconds_sum") == 0.5
    assert value(metrics, "redis_seconds_count") == 1


def test_what_there_are_alerts_on_begins_at_zero() -> None:
    """Prometheus counts no increase up to the first value that it sees: the first dead letters would be missed."""
    retry = Retry(schedule=())
    results: list[Answer | AttemptFailed] = [AttemptFailed(reason, "") for reason in Reason]
    results += [Answer(status, None, b"", 1.0) for status in range(100, 600)]
    outcomes = [after_attempt(1, result, retry, 0, lambda: 0.5) for result in results]

    metrics = Metrics()

    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Dead)}
    dead = {reason: value(metrics, "delivery_attempts_total", outcome="dead", reason=reason) for reason in reasons}
    assert len(dead) > 1
    assert set(dead.values()) == {0}
    assert value(metrics, "events_total", result="refused", reason=Reason.UNAVAILABLE) == 0


def test_numbers_kept_elsewhere_are_read_at_each_scrape() -> None:
    """And not before: a part may register itself before it is started."""
    metrics = Metrics()
    depth = {"waiting": 3}

    def places() -> list[tuple[str, float]]:
        return list(depth.items())

    metrics.sampled("gauge", "queue_depth", "Deliveries.", "place", places)
    metrics.sampled("counter", "slow_closes", "Connections.", "transport", lambda: [("websocket", 7)])
    metrics.gauge("configuration_subscriptions", "Subscriptions in force.", lambda: len(depth))
    depth["dead"] = 1

    assert value(metrics, "queue_depth", place="dead") == 1
    assert value(metrics, "slow_closes_total", transport="websocket") == 7
    assert value(metrics, "configuration_subscriptions") == 2


def test_a_name_is_taken_once() -> None:
    """Two parts with one name are a mistake that shows at once."""
    metrics = Metrics()
    metrics.sampled("gauge", "depth", "", "place", list)

    with pytest.raises(ValueError, match="Duplicated"):
        metrics.sampled("gauge", "depth", "", "place", list)


async def test_both_formats_can_be_scraped() -> None:
    """The classic text, and OpenMetrics for those who ask for it."""
    metrics = Metrics()
    metrics.request("/x", "GET", 200, 0.1)
    metrics.sampled("counter", "publications", "Sent.", "kind", lambda: [("event", 1)])

    classic = await scrape(metrics)
    modern = await scrape(metrics, "application/openmetrics-text; version=1.0.0")

    openmetrics: list[Metric] = list(parse_openmetrics(modern.text))  # type: ignore[no-untyped-call]
    assert {family.name for family in parse_text(classic.text)} >= {"hookcast_http_requests", "hookcast_publications"}
    assert {family.name for family in openmetrics} >= {"hookcast_publications"}
    assert classic.headers["content-type"].startswith("text/plain; version=")


def test_two_apps_in_one_process_do_not_share_numbers() -> None:
    """Each has its own registry."""
    first, second = Metrics(), Metrics()

    first.event("accepted")

    assert value(second, "events_total", result="accepted", reason="") is None
