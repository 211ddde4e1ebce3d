"""Numbers that parts keep as plain integers, as metrics: read when Prometheus asks."""

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.configuration.kubernetes import KubernetesConfiguration
from hookcast_app.health import RedisWatches
from hookcast_app.observability import Metrics
from hookcast_app.realtime import TRANSPORTS, Stats


def export_realtime(metrics: Metrics, stats: Stats) -> None:
    """Connections, publications and what became of them."""
    metrics.sampled(
        "gauge",
        "realtime_connections",
        "Open connections of clients.",
        "transport",
        lambda: [(transport, stats.connections[transport]) for transport in TRANSPORTS],
    )
    metrics.sampled(
        "counter",
        "realtime_events",
        "What happened to clients and publications.",
        "what",
        lambda: [
            ("connects", stats.connects),
            ("refused", stats.refused),
            ("refused_connects", stats.refused_connects),
            ("refused_waiting", stats.refused_waiting),
            ("refused_posts", stats.refused_posts),
            ("hasty_closes", stats.hasty_closes),
            ("publications", stats.publications),
            ("deliveries", stats.deliveries),
            ("client_publications", stats.client_publications),
            ("slow_closes", stats.slow_closes),
            ("interruptions", stats.interruptions),
        ],
    )
    metrics.sampled(
        "counter",
        "realtime_recoveries",
        "Subscriptions of clients that came back, and asked for what they had missed.",
        "result",
        lambda: [("recovered", stats.recovered), ("not_recovered", stats.not_recovered)],
    )
    metrics.sampled(
        "counter",
        "realtime_closes",
        "Connections that the server closed, by code; other codes are what the server API said.",
        "code",
        lambda: [(str(code) if code else "other", count) for code, count in sorted(stats.closes.items())],
    )


def export_configuration(metrics: Metrics, current: CurrentConfiguration) -> None:
    """What is in force, what is not, and filters that could not be evaluated."""
    metrics.gauge("subscriptions", "Subscriptions in force.", lambda: len(current.entries))
    metrics.gauge("configuration_problems", "Documents or files that are not in force.", lambda: len(current.problems))
    metrics.gauge(
        "configuration_sequence",
        "Sequence of the configuration in force, 0 before the first.",
        lambda: current.configuration.sequence if current.configuration else 0,
    )
    metrics.gauge("filter_errors", "Evaluations of filters that failed.", current.filter_errors.total)


def export_pushed(metrics: Metrics, source: KubernetesConfiguration) -> None:
    """What came from the operator, and when it was last heard of."""
    metrics.gauge(
        "configuration_pushed_timestamp_seconds",
        "When the operator last pushed a configuration, new or not; 0 if it has not since the start.",
        lambda: source.pushed_at,
    )
    metrics.gauge(
        "configuration_rejected",
        "Subscriptions of the configuration in force that this process does not take.",
        lambda: len(source.in_force.rejected) if source.in_force else 0,
    )


def export_redis(metrics: Metrics, watches: RedisWatches) -> None:
    """How full Redis is; of a cluster, the fullest of its masters."""
    metrics.gauge(
        "redis_emptied",
        "How often Redis came back empty since the start: what was accepted and not delivered by then is lost.",
        lambda: watches.emptied,
    )
    metrics.gauge("redis_memory_used_bytes", "Memory that Redis uses.", lambda: watches.fullest[0])
    metrics.gauge("redis_memory_max_bytes", "Redis' maxmemory, 0 without a limit.", lambda: watches.fullest[1])
