"""A real server with the realtime part alone, and a client that speaks the protocol word by word."""

import asyncio
import json
import random
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect

from hookcast_app.auth import ApiKeys
from hookcast_app.http_wire import HttpServerState
from hookcast_app.problems import problem_for, problem_response
from hookcast_app.realtime import UVICORN_OPTIONS, ChannelRules, Realtime, Shards
from hookcast_app.realtime.context import Timing
from hookcast_app.rpc import Methods
from hookcast_app.server_api import ServerApi, ServerApiEndpoint
from hookcast_app.settings import ChannelOptions, Settings
from hookcast_core.errors import InvalidInput, Refused, Unavailable
from tests.support.channels import OneServer

SECRET = "a secret of the tests, of 32 bytes and more"
PATIENCE = 10.0
"""Seconds that a test waits for what must come."""


def token(user: str, **claims: Any) -> str:
    """A connection token that the test's server accepts."""
    return jwt.encode({"sub": user, **claims}, SECRET, "HS256")


def settings(**changes: Any) -> Settings:
    """Anonymous clients may connect; `open` channels are for everybody, `chat` ones can be published on."""
    values: dict[str, Any] = {
        "realtime_anonymous": True,
        "jwt_secret": SECRET,
        "channel_namespaces": {
            "open": ChannelOptions(subscribe="anyone"),
            "chat": ChannelOptions(subscribe="anyone", publish="subscribers"),
            "small": ChannelOptions(subscribe="anyone", max_subscribers=1),
        },
    }
    return Settings(**{**values, **changes})


@dataclass
class Server:
    """A server that accepts connections."""

    realtime: Realtime
    redis: Redis
    port: int
    query: str = ""
    process: uvicorn.Server | None = None

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket{self.query}"

    @property
    def open_connections(self) -> int:
        """TCP connections that are open."""
        assert self.process is not None
        return len(self.process.server_state.connections)

    @property
    def answered(self) -> int:
        """HTTP requests that were answered to the end."""
        assert self.process is not None
        return self.process.server_state.total_requests

    def subscribers(self, channel: str) -> int:
        return self.realtime._endpoint._context.hub.count(channel)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    redis_url: str,
    *,
    raw: bool = True,
    timing: Timing | None = None,
    methods: Methods | None = None,
    **changes: Any,
) -> AsyncIterator[Server]:
    """The realtime part on uvicorn; `raw` offers the raw write, else it is uvicorn's own WebSocket class."""
    redis = Redis.from_url(redis_url)
    chosen = settings(**changes)
    rules = ChannelRules(chosen.channel_namespaces)
    realtime = Realtime(
        settings=chosen,
        shards=Shards(OneServer(redis), rules),
        rules=rules,
        timing=timing,
        methods=methods,
        randomness=random.Random(1),  # noqa: S311  a test repeats itself
    )
    await realtime.start()
    running = asyncio.create_task(realtime.run())
    other = {"ws": "websockets-sansio", "ws_per_message_deflate": False}
    options = UVICORN_OPTIONS if raw else {**UVICORN_OPTIONS, **other}
    # The rest as hookcast_app.server has it.
    options = {
        **options,
        "log_config": None,
        "lifespan": "off",
        "access_log": False,
        "proxy_headers": False,
    }
    server = uvicorn.Server(uvicorn.Config(application(realtime, chosen), **options))
    server.server_state = HttpServerState()
    listener = socket.create_server(("127.0.0.1", 0))
    serve = asyncio.create_task(server._serve([listener]))
    try:
        await until(lambda: server.started)
        yield Server(realtime, redis, listener.getsockname()[1], process=server)
    finally:
        await realtime.drain(0)
        for accepting in server.servers:
            accepting.close()
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)
        serve.cancel()
        running.cancel()
        await asyncio.wait({serve, running})
        await realtime.close()
        await redis.aclose()
    assert running.cancelled(), "the task of the broker died"


def application(realtime: Realtime, chosen: Settings | None = None) -> ASGIApp:
    """What the app's main module makes of it, as short as can be."""
    chosen = chosen or settings()
    api = FastAPI()
    server_api = ServerApiEndpoint(
        ServerApi(realtime.backend, max_bytes=chosen.max_event_bytes),
        ApiKeys(chosen.api_keys),
        max_bytes=chosen.max_event_bytes,
    )
    api.include_router(realtime.router())

    @api.exception_handler(Refused)
    @api.exception_handler(InvalidInput)
    @api.exception_handler(Unavailable)
    async def answer(_request: Request, error: Refused | InvalidInput | Unavailable) -> Response:
        return problem_response(problem_for(error))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (direct := realtime.application(scope)) is not None:
            await direct(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in server_api.paths:
            await server_api(scope, receive, send)
        else:
            await api(scope, receive, send)

    return app


class Speaker(ABC):
    """Says something on a WebSocket, and hears what comes."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    @abstractmethod
    async def send(self, said: Any, /) -> None:
        """Says something."""

    @abstractmethod
    async def next(self) -> Any:
        """The next thing that comes."""

    async def ask(self, said: Any) -> Any:
        await self.send(said)
        return await self.next()

    async def closed(self) -> tuple[int | None, str | None]:
        """Waits for the end; its code and reason."""
        async with asyncio.timeout(PATIENCE):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason


class Client(Speaker):
    """Speaks the protocol word by word."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self._lines: list[Any] = []

    async def send(self, *commands: Any) -> None:
        await self.connection.send("\n".join(json.dumps(command) for command in commands))

    async def next(self) -> Any:
        """The next reply or push."""
        if not self._lines:
            async with asyncio.timeout(PATIENCE):
                message = await self.connection.recv()
            self._lines = [json.loads(line) for line in str(message).split("\n")]
        return self._lines.pop(0)


@asynccontextmanager
async def client(server: Server, *channels: str, connected: bool = True, **options: Any) -> AsyncIterator[Client]:
    """A client, connected as nobody unless `connected` is False, and subscribed."""
    async with connect(server.ws_url, ping_interval=None, **options) as connection:
        speaker = Client(connection)
        if connected:
            assert "connect" in await speaker.ask({"id": 1, "connect": {}})
        for number, channel in enumerate(channels, 2):
            assert await speaker.ask({"id": number, "subscribe": {"channel": channel}}) == {
                "id": number,
                "subscribe": {},
            }
        yield speaker
