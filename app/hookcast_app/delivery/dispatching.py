"""The dispatcher with all that it needs, opened and closed as one."""

import asyncio
import secrets
from collections.abc import Callable
from importlib.metadata import version

from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.backlog import Backlog
from hookcast_app.delivery.disabling import Disabling, Report
from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.history import History
from hookcast_app.delivery.outcome import Dead, Delivered, Later
from hookcast_app.delivery.signals import Signals
from hookcast_app.delivery.store import LaneStore
from hookcast_app.delivery.targets import Targets
from hookcast_app.delivery.wellbeing import Changes, EndpointsWellbeing, Stopped
from hookcast_app.observability import Metrics
from hookcast_app.outgoing import HttpClient
from hookcast_app.redis import Keys
from hookcast_app.settings import Settings
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Reason

LEASE_SECONDS = 30.0
EMBEDDED_TOKEN = "embedded"  # noqa: S105  the name of a lease's holder
MAX_CONNECTIONS = 1_000
"""To one endpoint: as many as `maxInFlight` may ask for."""


class Dispatching:
    """Lives as long as the app, on its loop; `run()` holds its tasks."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        settings: Settings,
        configuration: CurrentConfiguration,
        policy: EgressPolicy,
        *,
        clock: Callable[[], int],
        random: Callable[[], float],
        report: Report,
        metrics: Metrics,
    ) -> None:
        # The embedded Redis serves one process only: the next one is its successor and takes over its leases at once.
        store = LaneStore(
            redis,
            keys,
            token=EMBEDDED_TOKEN if settings.has_embedded_redis else secrets.token_hex(16),
            lease_seconds=LEASE_SECONDS,
            retention_seconds=settings.retention_seconds,
            dead_letter_retention_seconds=settings.dead_letter_retention_seconds,
        )
        self._metrics = metrics
        self._clock = clock
        self._configuration = configuration
        self._history = History(redis, keys)
        self.wellbeing = EndpointsWellbeing(secrets.token_hex(8), clock)
        configuration.listen(lambda _: self.wellbeing.keep(configuration.entries.keys()))
        self._client = HttpClient(policy, connections_per_endpoint=MAX_CONNECTIONS)
        targets = Targets(configuration, version("hookcast"), clock, settings.deletion_grace_seconds)
        attempts = Attempts(self._client, clock, random)
        disabling = Disabling(store, configuration, clock, report, after_seconds=settings.disable_after_seconds)
        self._dispatcher = Dispatcher(store, configuration, targets, attempts, disabling, clock, self._observe)
        self._signals = Signals(redis, keys.wake, self._dispatcher.wake, self._dispatcher.look)
        self._backlog = Backlog(store, configuration, clock, metrics)
        metrics.gauge("lanes_held", "Lanes leased by this process.", lambda: self._dispatcher.lanes_held)
        metrics.gauge("attempts_in_flight", "Attempts under way.", lambda: self._dispatcher.in_flight)
        metrics.gauge(
            "breakers_open",
            "Subscriptions whose circuit breaker is open, of those leased by this process.",
            lambda: self._dispatcher.breakers_open,
        )
        metrics.sampled("counter", "deliveries_dropped", "Results dropped, by why.", "why", self._dispatcher.dropped)

    async def run(self) -> None:
        """Works until cancelled, or until a task of it dies."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._dispatcher.run(), name="dispatcher")
            tasks.create_task(self._signals.run(), name="dispatcher signals")
            tasks.create_task(self._backlog.run(), name="backlog")

    async def drain(self, seconds: float) -> None:
        """Lets attempts in flight end and gives the lanes back."""
        await self._dispatcher.drain(seconds)

    async def close(self) -> None:
        """Closes the connections to endpoints."""
        await self._client.close()

    async def changes(self, cursor: str | None) -> Changes:
        """How endpoints are doing: what changed since `cursor`. Raises Unavailable if Redis does not answer."""
        stopped: dict[str, Stopped] = {
            uid: ("NoSigningKey", Reason.NO_SIGNING_KEY)
            for uid, entry in self._configuration.entries.items()
            if not entry.can_sign(self._clock())
        }
        disabled = await self._history.disabled()
        self.wellbeing.stopped(stopped | {uid: ("Disabled", one.reason) for uid, one in disabled.items()})
        self.wellbeing.keep(self._configuration.entries.keys())
        return self.wellbeing.since(cursor)

    def look(self) -> None:
        """Looks for work at once."""
        self._dispatcher.look()

    def start_over(self) -> None:
        """Reads every lane anew: Redis may have lost its latest writes."""
        self._dispatcher.start_over()

    def follow(self, *, is_moving: bool) -> None:
        """Rests while Redis is being moved to another, and once it was."""
        if is_moving:
            self._dispatcher.pause()
        else:
            self._dispatcher.resume()

    def check(self) -> str | None:
        """Readiness: whether lanes can be leased."""
        return self._dispatcher.check(asyncio.get_running_loop().time())

    def _observe(self, uid: str, attempted: Attempted) -> None:
        self.wellbeing.record(uid, attempted.outcome)
        seconds = attempted.attempt.duration_ms / 1000
        match attempted.outcome:
            case Later(reason=reason):
                self._metrics.attempt("later", reason, seconds)
            case Dead(reason=reason):
                self._metrics.attempt("dead", reason, seconds)
            case Delivered():
                self._metrics.attempt("delivered", None, seconds)
