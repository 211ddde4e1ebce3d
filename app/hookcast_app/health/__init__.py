"""Whether this process lives and whether it may get traffic: `/health/live` and `/health/ready`, on both ports."""

from hookcast_app.health.redis_watch import PATIENCE_SECONDS, RedisWatch, RedisWatches
from hookcast_app.health.routes import health_router
from hookcast_app.health.service import Check, Health

__all__ = [
    "PATIENCE_SECONDS",
    "Check",
    "Health",
    "RedisWatch",
    "RedisWatches",
    "health_router",
]
