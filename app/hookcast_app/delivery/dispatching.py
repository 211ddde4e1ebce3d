"""The dispatchers of all partitions with all that they need, opened and closed as one."""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.backlog import Backlog
from hookcast_app.delivery.balance import Balance
from hookcast_app.delivery.disabling import Disabling, Report
from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.gates import Gates
from hookcast_app.delivery.history import History
from hookcast_app.delivery.janitor import Janitor
from hookcast_app.delivery.leftovers import Leftovers
from hookcast_app.delivery.outcome import Dead, Delivered, Later
from hookcast_app.delivery.retention import Retention
from hookcast_app.delivery.sharing import Part
from hookcast_app.delivery.signals import Signals
from hookcast_app.delivery.store import DisabledStore, LaneStore
from hookcast_app.delivery.targets import Disposition, Targets
from hookcast_app.delivery.turns import ALL_READY_BYTES
from hookcast_app.delivery.wellbeing import Changes, EndpointsWellbeing, Stopped
from hookcast_app.events import Relay, Remembered
from hookcast_app.observability import Metrics
from hookcast_app.outgoing import HttpClient
from hookcast_app.realtime import Shards
from hookcast_app.redis import Partition, Partitions
from hookcast_app.settings import Settings
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Reason

LEASE_SECONDS = 30.0
EMBEDDED_TOKEN = "embedded"  # noqa: S105  the name of a lease's holder
MAX_CONNECTIONS = 1_000
"""To one endpoint: as many as `maxInFlight` may ask for."""


@dataclass(frozen=True, slots=True)
class _Served:
    """One partition, and what works on it."""

    partition: Partition
    store: LaneStore
    dispatcher: Dispatcher
    signals: Signals
    janitor: Janitor
    relay: Relay | None
    relay_signals: Signals | None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.dispatcher.run(), name="dispatcher")
            tasks.create_task(self.signals.run(), name="dispatcher signals")
            tasks.create_task(self.janitor.run(), name="janitor")
            if self.relay is not None and self.relay_signals is not None:
                tasks.create_task(self.relay.run(), name="relay")
                tasks.create_task(self.relay_signals.run(), name="relay signals")


class Dispatching:
    """Lives as long as the app, on its loop; `run()` holds its tasks."""

    def __init__(
        self,
        partitions: Partitions,
        shards: Shards,
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
        self._token = EMBEDDED_TOKEN if settings.has_embedded_redis else secrets.token_hex(16)
        self._partitions = partitions
        self._shards = shards
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._configuration = configuration
        self._history = History(partitions)
        self.wellbeing = EndpointsWellbeing(secrets.token_hex(8), clock)
        configuration.listen(lambda _: self.wellbeing.keep(configuration.entries.keys()))
        self._client = HttpClient(policy, connections_per_endpoint=MAX_CONNECTIONS)
        self._targets = Targets(configuration, version("hookcast"), clock, settings.deletion_grace_seconds)
        self._attempts = Attempts(self._client, clock, random)
        self._disabled = DisabledStore(partitions)
        self._disabling = Disabling(
            self._disabled, configuration, clock, report, after_seconds=settings.disable_after_seconds
        )
        self._passed: dict[str, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._served: dict[int, _Served] = {}
        self._open()
        home = self._served[partitions.home.keys.tag].store
        self._balance = Balance(home, configuration, lambda: self._dispatchers)
        self._backlog = Backlog(self._stores, configuration, clock, metrics)
        self._export()
        partitions.listen(self._grown, self._follow)

    @property
    def _dispatchers(self) -> list[Dispatcher]:
        return [served.dispatcher for served in self._served.values()]

    @property
    def _janitors(self) -> list[Janitor]:
        return [served.janitor for served in self._served.values()]

    def _stores(self) -> list[LaneStore]:
        return [served.store for served in self._served.values()]

    def _export(self) -> None:
        metrics = self._metrics
        metrics.gauge("lanes_held", "Lanes leased by this process.", self._sum(lambda one: one.lanes_held))
        metrics.gauge("attempts_in_flight", "Attempts under way.", self._sum(lambda one: one.in_flight))
        metrics.gauge(
            "breakers_open",
            "Lanes whose circuit breaker is open, of those leased by this process.",
            self._sum(lambda one: one.breakers_open),
        )
        metrics.sampled("counter", "deliveries_dropped", "Results dropped, by why.", "why", self._dropped)
        metrics.gauge(
            "events_kept_bytes",
            "Memory of the events that are listed, about.",
            lambda: sum(janitor.retention.spanned for janitor in self._janitors),
        )
        metrics.gauge(
            "events_kept_seconds",
            "Age of the oldest event that is listed.",
            lambda: max(janitor.retention.age_ms(self._clock()) for janitor in self._janitors) / 1000,
        )
        metrics.gauge(
            "dedup_window_seconds",
            "For how long the ids that publishers gave are remembered.",
            lambda: min(janitor.remembered.window_seconds for janitor in self._janitors),
        )

    def _sum(self, of: Callable[[Dispatcher], int]) -> Callable[[], int]:
        return lambda: sum(map(of, self._dispatchers))

    def _dropped(self) -> Iterable[tuple[str, int]]:
        counts: dict[str, int] = {}
        for dispatcher in self._dispatchers:
            for why, count in dispatcher.dropped():
                counts[why] = counts.get(why, 0) + count
        return counts.items()

    # Partitions

    def _open(self) -> list[_Served]:
        """Opens what serves partitions that are not served yet."""
        made = []
        for partition in self._partitions.all:
            if partition.keys.tag not in self._served:
                self._served[partition.keys.tag] = served = self._serving(partition)
                made.append(served)
        return made

    def _serving(self, partition: Partition) -> _Served:
        redis, keys = partition
        store = LaneStore(
            redis,
            keys,
            token=self._token,
            lease_seconds=LEASE_SECONDS,
            retention_seconds=self._settings.retention_seconds,
            dead_letter_retention_seconds=self._settings.dead_letter_retention_seconds,
            epoch=lambda: self._partitions.epoch,
        )
        dispatcher = Dispatcher(
            store,
            self._configuration,
            self._targets,
            self._attempts,
            self._disabling,
            self._clock,
            self._observe,
            gates=Gates(self._partitions, partition, self._passed),
            part=lambda: self._part(partition),
            ready_bytes=lambda: ALL_READY_BYTES // len(self._served),
        )
        relay = relay_signals = None
        if self._partitions.is_cluster:
            relay = Relay(partition, self._shards, self._token)
            relay_signals = Signals(redis, relay.wake_channel(partition), relay.wake, relay.wake)
        signals = Signals(redis, keys.wake, dispatcher.wake, dispatcher.look)
        return _Served(partition, store, dispatcher, signals, self._janitor(partition), relay, relay_signals)

    def _part(self, partition: Partition) -> Part:
        active = self._partitions.active
        return Part(active.index(partition) if partition in active else len(active), len(active))

    async def _grown(self) -> None:
        await self._disabled.spread()
        for served in self._open():
            if self._tasks is not None:
                self._tasks.create_task(served.run(), name="partition")

    def _follow(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.follow()

    def _janitor(self, partition: Partition) -> Janitor:
        settings = self._settings
        parts = self._count
        kept = settings.retention_seconds
        return Janitor(
            Retention(*partition, most_bytes=settings.retention_bytes, retention_seconds=kept, parts=parts),
            Remembered(*partition, seconds=settings.dedup_seconds, most_bytes=settings.dedup_bytes, parts=parts),
            Leftovers(
                *partition,
                lambda uid: self._targets.disposition(uid) is Disposition.DISCARD,
                retention_seconds=kept,
                dead_letter_retention_seconds=settings.dead_letter_retention_seconds,
            ),
        )

    def _count(self) -> int:
        return len(self._partitions.active)

    # Lifetimes

    async def run(self) -> None:
        """Works until cancelled, or until a task of it dies."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for served in self._served.values():
                tasks.create_task(served.run(), name="partition")
            tasks.create_task(self._balance.run(), name="balance")
            tasks.create_task(self._backlog.run(), name="backlog")

    async def drain(self, seconds: float) -> None:
        """Lets attempts in flight end and gives the lanes back."""
        await self._balance.stop()
        await asyncio.gather(*(dispatcher.drain(seconds) for dispatcher in self._dispatchers))

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

    async def restore(self) -> None:
        """A Redis came back empty: it learns what others know, and work is looked for. Raises Unavailable."""
        await self._disabled.spread()
        self.look()

    def look(self) -> None:
        """Looks for work at once."""
        for dispatcher in self._dispatchers:
            dispatcher.look()

    def start_over(self) -> None:
        """Reads every lane anew: Redis may have lost its latest writes."""
        for dispatcher in self._dispatchers:
            dispatcher.start_over()

    def follow(self, *, is_moving: bool) -> None:
        """Rests while Redis is being moved to another, and once it was."""
        for dispatcher in self._dispatchers:
            if is_moving:
                dispatcher.pause()
            else:
                dispatcher.resume()

    def check(self) -> str | None:
        """Readiness: whether lanes can be leased."""
        now = asyncio.get_running_loop().time()
        return next((why for each in self._dispatchers if (why := each.check(now)) is not None), None)

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
