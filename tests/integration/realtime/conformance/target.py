"""The server that is tested: Hookcast itself, or another one that is held to the same list.

Another server runs already, and is named by the environment:
`HOOKCAST_CONFORMANCE_URL`: `http://host:port`, under which `/connection/websocket` and the like are;
`HOOKCAST_CONFORMANCE_SECRET`: signs its HS256 tokens (default: the tests' own);
`HOOKCAST_CONFORMANCE_PUBLISH`: a URL with `{channel}`, to which a publication's data is sent;
`HOOKCAST_CONFORMANCE_DISCONNECT`: a URL with `{user}`, whose connections it ends for good.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from cent import AsyncClient, DisconnectRequest

from hookcast_app.rpc import Call, Methods
from hookcast_app.settings import ApiKey
from tests.integration.realtime.conformance.channels import options
from tests.integration.realtime.server import SECRET, Server, serving

OUTSIDE = os.environ.get("HOOKCAST_CONFORMANCE_URL", "").rstrip("/")
"""Another server's URL; empty for Hookcast itself."""
API_KEY = "a key of the conformance suite"


async def echo(call: Call) -> Any:
    """Answers with what it was given."""
    return call.data


METHODS = Methods({"echo": echo})


def only_ours(reason: str) -> pytest.MarkDecorator:
    """For tests of what another server need not have; the reason says why."""
    return pytest.mark.skipif(bool(OUTSIDE), reason=reason)


@dataclass(frozen=True)
class Target:
    """A server that accepts connections."""

    http_url: str
    secret: str
    publish: Callable[[str, bytes], Awaitable[None]]
    """Publishes JSON text on a channel, as the application would."""
    disconnect: Callable[[str], Awaitable[None]]
    """Ends a user's connections for good."""

    @property
    def ws_url(self) -> str:
        return f"ws{self.http_url.removeprefix('http')}/connection/websocket"

    @property
    def sse_url(self) -> str:
        return f"{self.http_url}/connection/sse"

    @property
    def stream_url(self) -> str:
        return f"{self.http_url}/connection/http_stream"

    @property
    def emulation_url(self) -> str:
        return f"{self.http_url}/emulation"

    @property
    def api_url(self) -> str:
        return f"{self.http_url}/api"

    def token(self, user: str, **claims: Any) -> str:
        """A connection token of that user."""
        return jwt.encode({"sub": user, **claims}, self.secret, "HS256")

    def subscription_token(self, user: str, channel: str, **claims: Any) -> str:
        """A token with which that user may subscribe to that channel."""
        return jwt.encode({"sub": user, "channel": channel, **claims}, self.secret, "HS256")


@asynccontextmanager
async def ours(redis_url: str, **changes: Any) -> AsyncIterator[Target]:
    """Hookcast's realtime part, with a method `echo`; `changes` are those of `serving`."""
    key = ApiKey(name="conformance", key=API_KEY, scopes=frozenset({"admin"}))
    arguments = {"channel_namespaces": options(), "api_keys": [key], "methods": METHODS, **changes}
    async with serving(redis_url, **arguments) as server:
        yield _target(server)


def _target(server: Server) -> Target:
    async def disconnect(user: str) -> None:
        async with api(f"{server.http_url}/api") as cent:
            await cent.disconnect(DisconnectRequest(user=user))

    return Target(server.http_url, SECRET, server.realtime.publish, disconnect)


@asynccontextmanager
async def outside() -> AsyncIterator[Target]:
    """The server that the environment names."""
    async with httpx.AsyncClient(trust_env=False) as client:

        async def publish(channel: str, data: bytes) -> None:
            url = os.environ["HOOKCAST_CONFORMANCE_PUBLISH"].format(channel=quote(channel))
            (await client.post(url, content=data)).raise_for_status()

        async def disconnect(user: str) -> None:
            url = os.environ["HOOKCAST_CONFORMANCE_DISCONNECT"].format(user=quote(user))
            (await client.post(url)).raise_for_status()

        yield Target(OUTSIDE, os.environ.get("HOOKCAST_CONFORMANCE_SECRET", SECRET), publish, disconnect)


@asynccontextmanager
async def api(url: str) -> AsyncIterator[AsyncClient]:
    """The stock client of the server API."""
    client = AsyncClient(url, API_KEY)
    try:
        yield client
    finally:
        await client.close()
