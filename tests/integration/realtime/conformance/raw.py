"""Clients that speak the protocol word by word, over each transport, and show every field."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.realtime.conformance.target import Target

Transport = Literal["websocket", "sse", "http_stream"]
TRANSPORTS: tuple[Transport, ...] = ("websocket", "sse", "http_stream")
Line = dict[str, Any]


PATIENCE = 10.0
"""Seconds that a test waits for what must come."""


class Ended(Exception):  # noqa: N818  it is what happened
    """The server ended the connection."""


class Speaker(ABC):
    """Sends commands as they are; replies are found by id, pushes by what they hold; pings are answered."""

    def __init__(self) -> None:
        self.pushes: list[Line] = []
        """Those that came and were not asked for yet."""
        self.order: list[str] = []
        """What came, in order: `reply 1`, `join`, `pub`."""
        self.answers_pings = True
        self.pings = 0
        self._replies: dict[int, Line] = {}

    @abstractmethod
    async def send_text(self, text: str) -> None:
        """Sends a message as it is."""

    @abstractmethod
    async def receive(self) -> list[str]:
        """The next lines. Raises Ended."""

    @abstractmethod
    async def closed(self) -> tuple[int, str]:
        """Waits for the end; the code and reason that the server gives."""

    async def send(self, *commands: Any) -> None:
        """Sends commands in one message."""
        await self.send_text("\n".join(json.dumps(command) for command in commands))

    async def ask(self, command: Any) -> Any:
        """Sends a command and gives its reply."""
        await self.send(command)
        return await self.reply(command["id"])

    async def reply(self, number: int) -> Any:
        """The reply to the command of that id."""
        async with asyncio.timeout(PATIENCE):
            while number not in self._replies:
                await self._take()
        return self._replies.pop(number)

    async def push(self, kind: str) -> Any:
        """The next push that holds a `pub`, a `join` or whatever `kind` says."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for push in self.pushes:
                    if kind in push:
                        self.pushes.remove(push)
                        return push
                await self._take()

    async def ping(self) -> None:
        """Waits for one more ping."""
        before = self.pings
        async with asyncio.timeout(PATIENCE):
            while self.pings == before:
                await self._take()

    async def settled(self) -> None:
        """What was on its way when this was called has arrived."""
        assert await self.ask({"id": 99_999, "unsubscribe": {"channel": "nothing"}}) == {
            "id": 99_999,
            "unsubscribe": {},
        }

    async def _take(self) -> None:
        for text in await self.receive():
            line = json.loads(text)
            if not line:
                self.pings += 1
                if self.answers_pings:
                    await self.send_text("{}")
            elif "push" in line:
                self.pushes.append(line["push"])
                self.order.append(next(key for key in line["push"] if key != "channel"))
            else:
                self._replies[line["id"]] = line
                self.order.append(f"reply {line['id']}")

    async def _until_end(self) -> None:
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    await self._take()
            except Ended:
                return


class WebSocket(Speaker):
    """Over a WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def send_text(self, text: str) -> None:
        await self.connection.send(text)

    async def receive(self) -> list[str]:
        try:
            return str(await self.connection.recv()).split("\n")
        except ConnectionClosed as error:
            raise Ended from error

    async def closed(self) -> tuple[int, str]:
        await self._until_end()
        return self.connection.close_code or 0, self.connection.close_reason or ""


class Emulated(Speaker):
    """Down by server-sent events or HTTP streaming, up by POST: the first message opens the stream."""

    def __init__(self, target: Target, client: httpx.AsyncClient, transport: Transport) -> None:
        super().__init__()
        self.session: Line = {}
        """`session` and `node` of the connect reply."""
        self.response: httpx.Response | None = None
        self._target = target
        self._client = client
        self._is_sse = transport == "sse"
        self._lines: AsyncIterator[str] | None = None

    async def send_text(self, text: str) -> None:
        if self.response is None:
            await self._open(text)
            return
        while not self.session:
            await self._take()
        answer = await self._client.post(self._target.emulation_url, json={**self.session, "data": text})
        assert answer.status_code == 204

    async def _open(self, text: str) -> None:
        if self._is_sse:
            request = self._client.build_request("GET", self._target.sse_url, params={"cf_connect": text})
        else:
            request = self._client.build_request("POST", self._target.stream_url, content=text)
        self.response = await self._client.send(request, stream=True)
        assert self.response.status_code == 200
        self._lines = self.response.aiter_lines()

    async def receive(self) -> list[str]:
        assert self._lines is not None
        async for line in self._lines:
            if self._is_sse and not line:
                continue
            text = line.removeprefix("data: ") if self._is_sse else line
            if "session" in (reply := json.loads(text).get("connect", {})):
                self.session = {"session": reply["session"], "node": reply["node"]}
            return [text]
        raise Ended

    async def closed(self) -> tuple[int, str]:
        push = (await self.push("disconnect"))["disconnect"]
        await self._until_end()
        return push["code"], push["reason"]


@asynccontextmanager
async def opened(target: Target, transport: Transport = "websocket") -> AsyncIterator[Speaker]:
    """A client that has said nothing yet."""
    if transport == "websocket":
        async with connect(target.ws_url, ping_interval=None, proxy=None, max_size=None) as connection:
            yield WebSocket(connection)
        return
    timeout = httpx.Timeout(None, connect=5)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        speaker = Emulated(target, client, transport)
        try:
            yield speaker
        finally:
            if speaker.response is not None:
                await speaker.response.aclose()


@asynccontextmanager
async def connected(
    target: Target, *channels: str, user: str = "", transport: Transport = "websocket", **claims: Any
) -> AsyncIterator[Speaker]:
    """A client that is connected, as `user` if that is given, and subscribed by commands 101 and on."""
    async with opened(target, transport) as speaker:
        token = {"token": target.token(user, **claims)} if user else {}
        reply = await speaker.ask({"id": 1, "connect": token})
        assert "connect" in reply, reply
        for number, channel in enumerate(channels, 101):
            reply = await speaker.ask({"id": number, "subscribe": {"channel": channel}})
            assert "subscribe" in reply, reply
        yield speaker
