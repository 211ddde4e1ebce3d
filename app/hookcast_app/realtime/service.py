"""The realtime part of the app: one object that owns the hub, the connection to Redis and every client."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from importlib.metadata import version

from fastapi import APIRouter
from starlette.types import ASGIApp, Scope

from hookcast_app.auth import TokenVerifier
from hookcast_app.realtime.acceptance import Acceptance
from hookcast_app.realtime.backend import Backend
from hookcast_app.realtime.broker import Broker
from hookcast_app.realtime.census import Census
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.claims import Claims
from hookcast_app.realtime.clients import Clients
from hookcast_app.realtime.context import Context, Timing
from hookcast_app.realtime.cors import Origins
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.emulation import PATH as EMULATION_PATH
from hookcast_app.realtime.emulation import EmulationEndpoint
from hookcast_app.realtime.hub import Hub
from hookcast_app.realtime.message_routes import MessageRoutes
from hookcast_app.realtime.nodes import Nodes
from hookcast_app.realtime.plain import PREFIX as PLAIN_PREFIX
from hookcast_app.realtime.plain import PlainEndpoint
from hookcast_app.realtime.presence import Presence
from hookcast_app.realtime.protocol import encode_publication
from hookcast_app.realtime.readers import Readers
from hookcast_app.realtime.routes import sse_router
from hookcast_app.realtime.shards import Shards
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.streaming import HTTP_STREAM, SSE, StreamingEndpoint
from hookcast_app.realtime.streams import Streams
from hookcast_app.realtime.websocket import PATH as WEBSOCKET_PATH
from hookcast_app.realtime.websocket import WebSocketEndpoint
from hookcast_app.rpc import Methods
from hookcast_app.settings import Settings

DRAIN_STEP = 0.05
"""Seconds between two groups of clients that are disconnected while draining."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
"""Seconds between attempts to reach Redis again."""


class Realtime:
    """Lives as long as the app: `start`, then `run` in a task of the app's; at the end `drain`, cancel `run`, `close`.

    Raises ValueError, naming the setting, for tokens that could not be trusted. `verifier` has to run if its keys are
    fetched. The clients of `shards` stay the caller's; what is subscribed to uses connections of its own to the same
    places.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        shards: Shards,
        rules: ChannelRules,
        verifier: TokenVerifier | None = None,
        methods: Methods | None = None,
        clock: Callable[[], float] = time.time,
        timing: Timing | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self.stats = Stats()
        self._random = randomness or random.Random()  # noqa: S311  spreads load, protects nothing
        self._clients = Clients(self.stats)
        self._is_draining = False
        hub = Hub(self.stats)
        verifier = verifier or TokenVerifier(settings, clock=clock)
        streams = Streams(shards, rules)
        self._broker = Broker(shards, streams, hub, backoff=self._pause)
        self._presence = Presence(shards)
        self._nodes = Nodes(shards, self._broker, on_order=self._clients.carry_out, on_emulated=self._clients.pass_on)
        context = Context(
            hub=hub,
            broker=self._broker,
            streams=streams,
            presence=self._presence,
            rules=rules,
            methods=methods or Methods(),
            verify=verifier.verify,
            verify_subscription=verifier.verify_subscription,
            clock=clock,
            timing=timing or Timing(),
            stats=self.stats,
            random=self._random,
            clients=self._clients,
            is_draining=lambda: self._is_draining,
        )
        census = Census(hub, self._clients, self._nodes, version=version("hookcast"))
        self.backend = Backend(rules, streams, self._presence, self._nodes, census)
        door = Door(settings, self.stats)
        acceptance = Acceptance(context, settings, version=f"hookcast {version('hookcast')}")
        origins = Origins(settings)
        self._endpoint = WebSocketEndpoint(context, door, acceptance, settings)
        self._http: dict[str, ASGIApp] = {
            kind.path: StreamingEndpoint(kind, context, door, acceptance, origins, node=self._nodes.uid).application()
            for kind in (SSE, HTTP_STREAM)
        }
        self._http[EMULATION_PATH] = EmulationEndpoint(context, door, self._nodes, origins).application()
        self._claims = Claims(shards)
        self._plain = PlainEndpoint(context, door, self._claims, settings)
        readers = Readers(context, door, origins, settings)
        self._router = sse_router(context, readers)
        self._router.include_router(MessageRoutes(context, readers).router())

    @property
    def is_ready(self) -> bool:
        """Whether publications come in from Redis now."""
        return self._broker.is_connected

    async def start(self) -> None:
        """Connects to Redis. Raises Unavailable."""
        await self._broker.connect()

    async def run(self) -> None:
        """Brings publications from Redis to clients until cancelled, across failures of Redis.

        What else it raises is a defect, and should end the process.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._broker.run(), name="realtime-broker")
            tasks.create_task(self._presence.run(), name="realtime-presence")
            tasks.create_task(self._claims.run(), name="realtime-claims")

    async def drain(self, seconds: float) -> None:
        """Accepts no more clients, and tells those that are here to come back, spread over at most `seconds`."""
        self._is_draining = True
        leaving = list(self._clients.all)
        self._random.shuffle(leaving)
        if not leaving:
            return
        steps = max(1, min(len(leaving), round(seconds / DRAIN_STEP)))
        for step in range(steps):
            if step > 0:
                await asyncio.sleep(seconds / steps)
            for client in leaving[step::steps]:
                client.disconnect()

    async def close(self) -> None:
        """Disconnects whoever is left, and leaves Redis."""
        await self.drain(0)
        await self._broker.close()

    async def publish(self, channel: str, data: bytes) -> None:
        """Publishes `data`, JSON text in UTF-8, to every subscriber of `channel`, wherever. Raises Unavailable."""
        await self._broker.publish(channel, encode_publication(data))

    def application(self, scope: Scope) -> ASGIApp | None:
        """What answers a request without FastAPI's routing: all but what is in `router`; None for other paths."""
        if scope["type"] not in {"websocket", "http"}:
            return None
        path: str = scope["path"]
        if path == WEBSOCKET_PATH:
            return self._endpoint
        if path.startswith(PLAIN_PREFIX):
            return self._plain
        return self._http.get(path) if scope["type"] == "http" else None

    def router(self) -> APIRouter:
        """`GET /sse/{channel}`, `GET /sse` and `GET /api/v1/channels/{channel}/messages`."""
        return self._router

    def _pause(self, failures: int) -> float:
        longest = min(_FIRST_PAUSE * math.ldexp(1.0, min(failures, 16)), _LONGEST_PAUSE)
        return longest * self._random.uniform(0.5, 1.0)
