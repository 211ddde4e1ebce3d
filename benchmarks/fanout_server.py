"""The servers that benchmarks.fanout compares: `python -m benchmarks.fanout_server hookcast|naive REDIS_URL`.

Both run on uvicorn and uvloop, without compression, and take `POST /publish/<count>`: so many publications at once. It
prints its port when it accepts connections.
"""

import asyncio
import socket
import sys

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from hookcast_app.http_wire import HttpServerState
from hookcast_app.realtime import UVICORN_OPTIONS, ChannelRules, Realtime, Shards, encode_publication
from hookcast_app.redis import Servers
from hookcast_app.settings import ChannelOptions, Settings

CHANNEL = "bench"
PATH = "/connection/websocket"
DATA = b'"' + b"x" * 126 + b'"'
"""128 bytes of JSON."""


def naive() -> ASGIApp:
    """What the FastAPI documentation shows: a list of WebSockets, and a loop of `send_text`."""
    app = FastAPI()
    clients: list[WebSocket] = []
    text = DATA.decode()

    @app.websocket(PATH)
    async def websocket(client: WebSocket) -> None:
        await client.accept()
        clients.append(client)
        try:
            while True:
                await client.receive_text()
        except WebSocketDisconnect:
            clients.remove(client)

    @app.post("/publish/{count}")
    async def publish(count: int) -> None:
        for _ in range(count):
            for client in clients:
                await client.send_text(text)

    return app


def hookcast(realtime: Realtime) -> ASGIApp:
    """The realtime part with a way to publish that does not go through Redis."""
    app = FastAPI()
    publication = encode_publication(DATA)
    hub = realtime._broker.hub  # noqa: SLF001  measured on purpose without what lies before it

    @app.post("/publish/{count}")
    async def publish(count: int) -> None:
        for _ in range(count):
            hub.publish(CHANNEL, publication)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await (realtime.application(scope) or app)(scope, receive, send)

    return route


async def serve(kind: str, redis_url: str) -> None:
    """Serves until the process is ended."""
    settings = Settings(realtime_anonymous=True, channel_namespaces={"": ChannelOptions(subscribe="anyone")})
    rules = ChannelRules(settings.channel_namespaces)
    realtime = Realtime(settings=settings, shards=Shards(Servers(redis_url), rules), rules=rules)
    await realtime.start()
    app = naive() if kind == "naive" else hookcast(realtime)
    options = {"ws": "websockets-sansio", "ws_per_message_deflate": False} if kind == "naive" else UVICORN_OPTIONS
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, **options)
    print(listener.getsockname()[1], flush=True)
    async with asyncio.TaskGroup() as group:
        broker = group.create_task(realtime.run())
        server = uvicorn.Server(config)
        server.server_state = HttpServerState()
        await server.serve([listener])
        broker.cancel()


if __name__ == "__main__":
    # `loop` of uvicorn's own run() is not used: there is more than one thing to run.
    import uvloop

    uvloop.run(serve(sys.argv[1], sys.argv[2]))
