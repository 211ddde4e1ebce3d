"""What an operator of the service sees: structured logs, correlation ids, metrics. Nothing here may show a secret."""

from hookcast_app.observability.correlation import ROUTE_KEY, CorrelationMiddleware, current_correlation_id, route_of
from hookcast_app.observability.logs import configure_logs, redact
from hookcast_app.observability.metrics import Metrics

__all__ = [
    "ROUTE_KEY",
    "CorrelationMiddleware",
    "Metrics",
    "configure_logs",
    "current_correlation_id",
    "redact",
    "route_of",
]
