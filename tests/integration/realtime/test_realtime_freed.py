"""What a client leaves behind in memory, however it listened: nothing that waits for Python's collector of cycles.

That looks rarely at what lives long, so clients that come and go would fill the memory until then.
"""

import gc
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.integration.realtime.server import Server, client, serving, until

NAMESPACES = {
    "open": {"subscribe": "anyone", "publish": "subscribers"},
    "ws": {"subscribe": "anyone", "publish": "subscribers", "join_leave": True, "presence": True},
    "kept": {"subscribe": "anyone", "history_size": 10, "recover": True},
}
COMMANDS = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"kept:a"}}'


async def websocket(server: Server) -> None:
    async with client(server, "open:a") as one:
        await one.ask({"id": 9, "publish": {"channel": "open:a", "data": 1}})


async def plain_websocket(server: Server) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/ws/{uuid.uuid4().hex}") as one:
        await one.recv()
        await one.send(json.dumps({"type": "message", "data": 1}))
        await one.recv()


def stream(method: str, path: str, **request: Any) -> Callable[[Server], Awaitable[None]]:
    async def listen(server: Server) -> None:
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            http.stream(method, f"{server.http_url}{path}", **request) as answer,
        ):
            async for _ in answer.aiter_bytes():
                return

    return listen


WAYS = {
    "websocket": websocket,
    "plain": plain_websocket,
    "sse": stream("GET", "/sse?channel=open:a&channel=kept:a"),
    "protocol_sse": stream("GET", "/connection/sse", params={"cf_connect": COMMANDS}),
    "http_stream": stream("POST", "/connection/http_stream", content=COMMANDS),
    "poll": stream("GET", "/api/v1/channels/kept:a/messages"),
}


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "asgi"])
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_of_a_client_waits_for_the_collector(
    redis_url: str,
    way: str,
    raw: bool,  # noqa: FBT001
) -> None:
    """Its connection, session and transport are freed as it goes."""
    async with serving(redis_url, raw=raw, channel_namespaces=NAMESPACES) as server:

        async def come_and_go() -> None:
            await WAYS[way](server)
            await until(lambda: server.realtime.stats.connections.total() == 0 and not server.open_connections)

        await come_and_go()  # what is made once stays
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await come_and_go()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = {f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

        assert {kind for kind in kinds if kind.startswith("hookcast_app.realtime")} == set()
