"""The realtime part with Centrifugo's HTTP API, and a caller of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import SecretStr

from hookcast_app.settings import ApiKey, ChannelOptions
from tests.integration.realtime.server import Server, serving

ADMIN, PUBLISHER, READER = "admin-of-the-tests-0123456789", "publisher-0123456789", "reader-0123456789"
KEYS = [
    ApiKey(name="admin", key=SecretStr(ADMIN), scopes=frozenset({"admin"})),
    ApiKey(name="shop", key=SecretStr(PUBLISHER), scopes=frozenset({"realtime:publish"})),
    ApiKey(name="watch", key=SecretStr(READER), scopes=frozenset({"read"})),
]
NAMESPACES = {
    "chat": ChannelOptions(subscribe="anyone", history_size=100, recover=True, presence=True),
    "plain": ChannelOptions(subscribe="anyone"),
}
MAX_DATA = 2_000
CHANNEL = "chat:lobby"
REQUESTS: dict[str, dict[str, Any]] = {
    "publish": {"channel": CHANNEL, "data": 1},
    "broadcast": {"channels": [CHANNEL], "data": 1},
    "subscribe": {"user": "ann", "channel": CHANNEL},
    "unsubscribe": {"user": "ann", "channel": CHANNEL},
    "disconnect": {"user": "ann"},
    "refresh": {"user": "ann"},
    "presence": {"channel": CHANNEL},
    "presence_stats": {"channel": CHANNEL},
    "history": {"channel": CHANNEL, "limit": 10},
    "history_remove": {"channel": CHANNEL},
    "channels": {},
    "info": {},
}
"""One of each method that is carried out."""


class Api:
    """A caller with a key."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self.server = server
        self._http = http

    async def send(self, method: str, body: bytes | str, **headers: str) -> httpx.Response:
        return await self._http.post(f"/api/{method}".rstrip("/"), content=body, headers=headers)

    async def __call__(self, method: str, key: str = ADMIN, /, **request: Any) -> dict[str, Any]:
        answer = await self.send(method, json.dumps(request), **{"X-API-Key": key})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def code(self, method: str, key: str = ADMIN, /, **request: Any) -> int:
        """The code of the error, 0 for a result."""
        answer = await self(method, key, **request)
        assert len(answer) == 1
        return int(answer["error"]["code"]) if "error" in answer else 0


@asynccontextmanager
async def running(redis_url: str) -> AsyncIterator[Api]:
    """A process with this API."""
    async with (
        serving(redis_url, api_keys=KEYS, channel_namespaces=NAMESPACES, max_event_bytes=MAX_DATA) as server,
        httpx.AsyncClient(base_url=server.http_url, timeout=30) as http,
    ):
        yield Api(server, http)
