"""Wiring and lifespan: which parts there are, in which order they open, and that they close in reverse."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TypeVar

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from hookcast_app import body_gate, garbage, openapi, problems, rpc
from hookcast_app.auth import ApiKeys, TokenVerifier
from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.configuration.files import ConfigurationFiles
from hookcast_app.configuration.kubernetes import KubernetesConfiguration
from hookcast_app.configuration.routes import configuration_router
from hookcast_app.delivery.actions import Actions
from hookcast_app.delivery.dispatching import Dispatching
from hookcast_app.delivery.history import History
from hookcast_app.delivery.moves import Moves
from hookcast_app.delivery.replay import Replays
from hookcast_app.delivery.routes import Reads, wellbeing_router
from hookcast_app.delivery.store import DisabledStore
from hookcast_app.delivery.trying import Trials
from hookcast_app.events import Relay
from hookcast_app.events import routes as events_routes
from hookcast_app.events.routes import EventsEndpoint
from hookcast_app.events.service import Events
from hookcast_app.events.store import EventStore
from hookcast_app.exports import export_configuration, export_pushed, export_realtime, export_redis
from hookcast_app.health import Health, RedisWatch, RedisWatches, health_router
from hookcast_app.kept.routes import KeptRoutes
from hookcast_app.kept.service import KeptSubscriptions
from hookcast_app.kept.store import KeptStore
from hookcast_app.key_server import KeyServer
from hookcast_app.observability import CorrelationMiddleware, Metrics
from hookcast_app.realtime import EMULATION_PATH, ChannelRules, Realtime, Shards
from hookcast_app.redis import EmbeddedRedis, Partition, Partitions, Servers, first_contact
from hookcast_app.server_api import ServerApi, ServerApiEndpoint
from hookcast_app.server_api.resources import ChannelRoutes
from hookcast_app.settings import Settings
from hookcast_core.configuration import Configuration
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason, Unavailable
from hookcast_core.sealing import Sealer

_QUIET = ServerApiEndpoint.paths | {events_routes.PATH, EMULATION_PATH, "/health/live", "/health/ready"}
"""Paths of the main port that are asked for all the time."""
_QUIET_ADMIN = frozenset({"/metrics", "/health/live", "/health/ready", "/internal/deliveries/health"})
"""Paths of the admin port that probes and the operator ask for all the time."""
_log = structlog.get_logger("hookcast.app")


def now_ms() -> int:
    """UTC epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Application:
    """One process's app: `main` and `admin` are its two ASGI apps, opened and closed by `main`'s lifespan.

    `failed` is set when a background task died; whoever runs the app then ends the process.
    """

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        self.settings = settings
        self.health = Health()
        self.metrics = Metrics()
        self.failed: BaseException | None = None
        self.configuration = CurrentConfiguration()
        self._clock = clock
        self._keys = ApiKeys(settings.api_keys)
        self._policy = _checked("egress_allow", lambda: EgressPolicy(settings.egress_allow))
        self._key_server = None if settings.jwks_url is None else KeyServer(settings.jwks_url, settings.egress_allow)
        fetch = None if self._key_server is None else self._key_server.fetch
        self._verifier = _checked(None, lambda: TokenVerifier(settings, fetch=fetch))
        self._rules = _checked("channel_namespaces", lambda: ChannelRules(settings.channel_namespaces))
        self._methods = rpc.load(settings.rpc_modules)
        self._tasks: list[asyncio.Task[None]] = []
        self._realtime: Realtime | None = None
        self._dispatching: Dispatching | None = None
        self._events: EventsEndpoint | None = None
        self._server_api: ServerApiEndpoint | None = None
        self._kept: KeptSubscriptions | None = None
        self._reports: Events | None = None
        self._watches = RedisWatches()
        self._partitions: Partitions | None = None
        self._fastapi = _fastapi(self._lifespan)
        self._gate = body_gate.BodyGate(self._fastapi, self._keys, settings.max_event_bytes)
        self._fastapi.include_router(health_router(self.health))
        export_configuration(self.metrics, self.configuration)
        self.main: ASGIApp = CorrelationMiddleware(self._route, metrics=self.metrics, quiet=_QUIET)
        self._admin = self._administration()
        self.admin: ASGIApp = CorrelationMiddleware(self._admin, quiet=_QUIET_ADMIN)

    async def drain(self, seconds: float) -> None:
        """Lets clients and attempts in flight end within `seconds`, and gives leases back."""
        self.health.turn_unready("draining")
        async with asyncio.TaskGroup() as group:
            if self._realtime is not None:
                group.create_task(self._realtime.drain(seconds))
            if self._dispatching is not None:
                group.create_task(self._dispatching.drain(seconds))

    def _route(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (self._direct(scope) or self._fastapi)(scope, receive, send)

    def _direct(self, scope: Scope) -> ASGIApp | None:
        """What answers without FastAPI's routing, or stands before it; None for other paths."""
        if self._realtime is not None and (app := self._realtime.application(scope)) is not None:
            return app
        if scope["type"] != "http":
            return None
        path: str = scope["path"]
        if path == events_routes.PATH and scope["method"] == "POST" and self._events is not None:
            return self._events
        if path in ServerApiEndpoint.paths and self._server_api is not None:
            return self._server_api
        return self._gate if path.startswith(body_gate.PREFIX) else None

    def _administration(self) -> FastAPI:
        admin = FastAPI(title="Hookcast administration", openapi_url=None)
        problems.install(admin)
        admin.include_router(health_router(self.health))
        admin.include_router(self.metrics.router())
        return admin

    # Lifetimes

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                self._start("heartbeat", self.health.run(self.metrics.loop_lag))
                partitions, shards = await self._open_redis(stack)
                await self._open_kept(partitions.home)
                await self._open_configuration()
                events = self._open_events(stack, partitions, shards)
                await self._open_serving(stack, partitions, shards, events)
                self._open_dispatching(stack, partitions, shards, events)
                self._start("partitions", partitions.run())
                garbage.settle()
                yield
            finally:
                await self._stop_tasks()

    async def _open_redis(self, stack: AsyncExitStack) -> tuple[Partitions, Shards]:
        url = self.settings.redis_url.get_secret_value()
        if self.settings.has_embedded_redis:
            embedded = EmbeddedRedis(self.settings.data_dir)
            url = await embedded.start()
            stack.push_async_callback(embedded.stop)
            self._start("embedded redis", embedded.run())
        servers = Servers(url)
        stack.push_async_callback(servers.aclose)
        partitions = self._partitions = Partitions(servers)
        try:
            await self._watch(partitions.home, partitions)
            await partitions.open(self.settings.partitions)
            await self._watch_others(partitions)
        except Unavailable as error:
            detail = f"{error.detail}; is it running there?"
            raise InvalidInput(Reason.REDIS_UNREACHABLE, "redis_url", detail) from error
        partitions.listen(partial(self._watch_others, partitions))
        shards = Shards(servers, self._rules)
        await shards.open()
        export_redis(self.metrics, self._watches)
        self.health.register("redis", self._watches.check)
        return partitions, shards

    async def _watch(self, partition: Partition, partitions: Partitions) -> None:
        """Waits for a server, and watches it from then on."""
        state = await first_contact(partition.redis, partition.keys)
        watch = RedisWatch(
            partition.redis,
            state,
            keys=partition.keys,
            on_empty=self._restore,
            on_emptied=self._emptied,
            on_latency=self.metrics.redis_latency,
            on_mark=self._follow_mark if partition == partitions.home else lambda _is_marked: None,
            on_restart=self._start_over,
        )
        self._watches.each[partition.keys.tag] = watch
        self._start("redis watch", watch.run())

    async def _watch_others(self, partitions: Partitions) -> None:
        """On a cluster each partition may be on another server."""
        for partition in partitions.all if partitions.is_cluster else ():
            if partition.keys.tag not in self._watches.each:
                await self._watch(partition, partitions)

    async def _restore(self) -> None:
        """Redis came back empty. What users keep by REST is written again; lanes are made by what is published next."""
        if self._partitions is not None:
            await self._partitions.restore()
        if self._kept is not None:
            await self._kept.restore()
        if self._dispatching is not None:
            await self._dispatching.restore()

    async def _emptied(self, instance: str) -> None:
        """Tells whoever subscribes to it that accepted events are lost."""
        if self._reports is not None:
            await self._reports.report("hookcast.redis.emptied", {"instance": instance}, f"emptied-{instance}")

    def _full(self) -> str | None:
        """Why nothing more is accepted for want of memory, or None."""
        used, most = self._watches.fullest
        if not most or used <= most * self.settings.high_water:
            return None
        share = used * 100 // most
        return f"Redis is full: {share} % of its memory are used, and HOOKCAST_HIGH_WATER is {self.settings.high_water}"

    def _start_over(self) -> None:
        if self._dispatching is not None:
            self._dispatching.start_over()

    def _follow_mark(self, is_marked: bool) -> None:  # noqa: FBT001  a callback's shape
        if self._dispatching is not None:
            self._dispatching.follow(is_moving=is_marked)

    async def _open_kept(self, home: Partition) -> None:
        redis, keys = home
        encryption_keys = [key.get_secret_value() for key in self.settings.encryption_keys]
        store = KeptStore(redis, keys, encryption_keys)
        self._kept = KeptSubscriptions(store, self.configuration, self._policy, self._clock)
        await self._kept.load()
        self._start("kept subscriptions", self._kept.run(redis))
        self._fastapi.include_router(KeptRoutes(self._kept, self._keys).router())

    async def _open_configuration(self) -> None:
        source: ConfigurationFiles | KubernetesConfiguration | None = None
        pushed = None
        if self.settings.configuration_dir is not None:
            keys = [key.get_secret_value() for key in self.settings.internal_key]
            source = pushed = KubernetesConfiguration(
                self.settings.configuration_dir, Sealer(keys), self._policy, self.configuration
            )
            export_pushed(self.metrics, pushed)
        elif self.settings.manifests is not None:
            source = ConfigurationFiles(
                self.settings.manifests, self.settings.data_dir, self._policy, self.configuration
            )
        self._admin.include_router(configuration_router(self.configuration, pushed))
        if source is None:
            self.configuration.swap(Configuration(sequence=1))  # what is kept by REST is all there is
        else:
            await source.load()
            self.health.register("configuration", source.check)
            self._start("configuration", source.run())

    def _open_events(self, stack: AsyncExitStack, partitions: Partitions, shards: Shards) -> Events:
        wait = self.settings.redis_wait

        def open_store(partition: Partition) -> EventStore:
            return EventStore(
                *partition,
                shards,
                retention_seconds=self.settings.retention_seconds,
                dedup_seconds=self.settings.dedup_seconds,
                wait=(wait.replicas, wait.timeout) if wait else None,
                relay=Relay.wake_channel(partition) if partitions.is_cluster else "",
            )

        events = Events(
            partitions,
            open_store,
            self.configuration,
            self._clock,
            self.metrics,
            dedup_seconds=self.settings.dedup_seconds,
            full=self._full,
        )
        stack.push_async_callback(events.close)
        self._start("event writers", events.run())
        self._reports = events
        return events

    async def _open_serving(
        self, stack: AsyncExitStack, partitions: Partitions, shards: Shards, events: Events
    ) -> None:
        self._open_deliveries(stack, partitions)
        if self.settings.role == "dispatcher":
            return
        self._events = EventsEndpoint(
            events, self._keys, self.metrics, max_bytes=self.settings.max_event_bytes, clock=self._clock
        )
        self._fastapi.include_router(self._events.router())
        if self._key_server is not None:
            stack.push_async_callback(self._key_server.close)
            self._start("token keys", self._verifier.run())
        self._realtime = Realtime(
            settings=self.settings, shards=shards, rules=self._rules, verifier=self._verifier, methods=self._methods
        )
        export_realtime(self.metrics, self._realtime.stats)
        await self._realtime.start()
        stack.push_async_callback(self._realtime.close)
        self._start("realtime", self._realtime.run())
        self._fastapi.include_router(self._realtime.router())
        server_api = ServerApi(self._realtime.backend, max_bytes=self.settings.max_event_bytes)
        self._server_api = ServerApiEndpoint(server_api, self._keys, max_bytes=self.settings.max_event_bytes)
        self._fastapi.include_router(ChannelRoutes(server_api, self._keys).router())

    def _open_deliveries(self, stack: AsyncExitStack, partitions: Partitions) -> None:
        history = History(partitions)
        moves = Moves(
            retention_seconds=self.settings.retention_seconds,
            dead_letter_retention_seconds=self.settings.dead_letter_retention_seconds,
        )
        replays = Replays(partitions, history, moves, self._clock)
        self._start("replays", replays.run())
        trials = Trials(self.configuration, self._policy, self._clock, random.random)  # noqa: S311  as for deliveries
        stack.push_async_callback(trials.close)
        actions = Actions(
            history,
            moves,
            replays,
            DisabledStore(partitions).enable,
            self.configuration,
            self._keys,
            self._clock,
            trials,
        )
        self._fastapi.include_router(actions.router())
        self._fastapi.include_router(Reads(history, replays, self.configuration, self._keys, self._clock).router())

    def _open_dispatching(self, stack: AsyncExitStack, partitions: Partitions, shards: Shards, events: Events) -> None:
        if self.settings.role == "api":
            return
        self._dispatching = Dispatching(
            partitions,
            shards,
            self.settings,
            self.configuration,
            self._policy,
            clock=self._clock,
            random=random.random,  # noqa: S311  jitter is no secret
            report=events.report,
            metrics=self.metrics,
        )
        stack.push_async_callback(self._dispatching.close)
        self._admin.include_router(wellbeing_router(self._dispatching.changes))
        self.health.register("dispatcher", self._dispatching.check)
        self._start("dispatcher", self._dispatching.run())

    def _start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Starts a task that must live as long as the app: its end, unless we end it, is the process's."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task not in self._tasks:
            return
        error = task.exception() or RuntimeError(f"the task {task.get_name()} ended by itself")
        _log.critical("task died", task=task.get_name(), exc_info=error)
        self.health.turn_unready(f"the task {task.get_name()} died")
        self.failed = self.failed or error

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        pending = set(tasks)
        while pending:  # one that swallows its cancellation is told again
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=1)


T = TypeVar("T")


def _checked(setting: str | None, build: Callable[[], T]) -> T:
    """Builds what a setting may be wrong for, before anything is opened. Raises InvalidInput that names it."""
    try:
        return build()
    except ValueError as error:
        raise InvalidInput(Reason.INVALID_SETTING, setting, str(error)) from error


def create_app(settings: Settings) -> Application:
    """The app for these settings; nothing is opened before its lifespan begins. Raises InvalidInput."""
    return Application(settings)


def _fastapi(lifespan: Callable[[FastAPI], object]) -> FastAPI:
    app = FastAPI(
        title="Hookcast",
        version=version("hookcast"),
        description="Realtime broadcast and reliable webhooks.",
        lifespan=lifespan,  # type: ignore[arg-type]  # a bound method with a context manager's signature
        responses=problems.RESPONSES,
    )
    problems.install(app)
    openapi.install(app)
    return app
