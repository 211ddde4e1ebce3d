"""A real HTTP server that takes webhooks, remembers them, and answers as a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import Receive, Scope, Send

from tests.support.ports import free_port


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What the receiver answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Behaviour = Callable[[Request], Reply | Awaitable[Reply]]


class Receiver:
    """Collects requests; `behaviour` decides on each answer and may be replaced at any time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.behaviour: Behaviour = lambda _request: Reply()
        self.port = free_port()
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[bytes]:
        """What arrived, in order."""
        return [request.body for request in self.requests]

    async def wait_for(self, count: int, within: float = 15.0) -> list[Request]:
        """The requests once there are at least `count`; fails with what is there if they do not come."""
        async with self._arrived:
            try:
                await asyncio.wait_for(self._arrived.wait_for(lambda: len(self.requests) >= count), within)
            except TimeoutError:
                raise AssertionError(f"{len(self.requests)} of {count} requests arrived: {self.requests}") from None
        return self.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request(scope["path"], headers, body)
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        answer = self.behaviour(request)
        reply = answer if isinstance(answer, Reply) else await answer
        raw = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await send({"type": "http.response.body", "body": reply.body})


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of the loopback interface."""
    receiver = Receiver()
    config = uvicorn.Config(receiver, port=receiver.port, lifespan="off", log_config=None, access_log=False, ws="none")
    config.timeout_graceful_shutdown = 0
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # without serve(): the test runner keeps its signals
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.005)
    try:
        yield receiver
    finally:
        server.should_exit = server.force_exit = True
        await task
