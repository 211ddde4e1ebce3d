"""A pod's admin port as the operator sees it, which answers as a test says; holds the documents that it was given."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from hookcast_core.document import MAX_BYTES, Document, parse_document
from hookcast_core.sealing import Sealer
from tests.support.ports import free_port


class FakePod:
    """Takes whatever is pushed; `behaviour` may answer instead, `rejected` and `deliveries` are what it tells."""

    def __init__(self) -> None:
        self.key = ""
        self.tokens: list[bytes] = []
        self.in_force: dict[str, Any] = {"sequence": None, "source": None}
        self.rejected: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []
        self.behaviour: Callable[[web.Request], web.Response | None] = lambda _: None
        self.hangs = False
        self.port = free_port()

    @property
    def document(self) -> Document | None:
        """What it was given last."""
        if not self.tokens:
            return None
        return parse_document(Sealer([self.key]).open(self.tokens[-1], MAX_BYTES)[0])

    async def handle(self, request: web.Request) -> web.Response:
        """Answers as the app does."""
        body = await request.read()
        if self.hangs:
            await asyncio.sleep(3_600)
        if (answer := self.behaviour(request)) is not None:
            return answer
        if request.path == "/internal/deliveries/health":
            cursor = str(len(self.deliveries))
            changed = [] if request.query["since"] == cursor else self.deliveries
            return web.json_response({"cursor": cursor, "deliveries": changed})
        if request.method == "PUT":
            self.tokens.append(body)
            found = self.document
            assert found is not None
            self.in_force = {"sequence": found.sequence, "origin": found.origin, "revision": found.revision}
        return web.json_response({**self.in_force, "rejected": self.rejected})


@asynccontextmanager
async def running_pod() -> AsyncIterator[FakePod]:
    """One on a free port of the loopback interface."""
    pod = FakePod()
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", pod.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", pod.port).start()
    try:
        yield pod
    finally:
        await runner.cleanup()
