"""A live subscriber by the stock clients' protocol (Centrifugal's, JSON) over a WebSocket."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hookcast_app.demo import texts
from hookcast_app.demo.screen import Screen

_PING = "{}"
_CONNECT_ID, _SUBSCRIBE_ID = 1, 2


class Subscriber:
    """Listens on one channel and shows what comes; connects again whenever it was disconnected."""

    def __init__(self, url: str, channel: str, screen: Screen) -> None:
        self._url = url
        self._channel = channel
        self._screen = screen
        self.subscribed = asyncio.Event()

    async def run(self, is_wanted: Callable[[], bool]) -> None:
        """Runs until the connection ends and `is_wanted` no longer holds, or until cancelled."""
        # Without a proxy: the server is on this machine, whatever the environment says. The protocol has its own pings.
        async for connection in connect(self._url, proxy=None, ping_interval=None):
            with suppress(ConnectionClosed):  # the server said why it closed, if it was not us who stopped it
                await self._listen(connection)
            if not is_wanted():
                return

    async def _listen(self, connection: ClientConnection) -> None:
        await connection.send(f'{{"id":{_CONNECT_ID},"connect":{{}}}}\n{self._subscription()}')
        async for message in connection:
            for line in _lines(message):
                if answer := self._handle(line):
                    await connection.send(answer)

    def _handle(self, line: str) -> str | None:
        """Takes one reply or push; what to answer, if anything."""
        if line == _PING:
            return _PING
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            self._screen.show(texts.labelled("websocket:", f"refused: {texts.compact(said['error'])}"))
        elif said.get("id") == _SUBSCRIBE_ID:
            self.subscribed.set()
        push = said.get("push", {})
        if "pub" in push:
            self._screen.arrived("websocket", texts.live(push["channel"], push["pub"]["data"]))
        # The server says so when messages may have been missed.
        return self._subscription() if "unsubscribe" in push else None

    def _subscription(self) -> str:
        return json.dumps({"id": _SUBSCRIBE_ID, "subscribe": {"channel": self._channel}})


def _lines(message: str | bytes) -> Iterator[str]:
    text = message if isinstance(message, str) else message.decode()
    return (line for line in text.split("\n") if line)
