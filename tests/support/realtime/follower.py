"""A client that comes back by itself and recovers, as the stock clients do; light enough for hundreds in a process."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from tests.support.realtime.ledger import Ledger, Place, Trail

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a client comes back, twice as many after each failure."""
OPEN_SECONDS = 5.0
"""For the connection and the handshake."""
ANSWER_SECONDS = 5.0
"""For the answer to a subscription."""
_CONNECT = 0xFFFF_FFFF
"""The id of the connect command."""
FIRST_FINAL, LAST_RETURN = 3500, 2500
"""A client that is closed with a code from the first on does not come back; to a channel it does from the second on."""


class Connection(Protocol):
    """To a server; `code` says why it ended, if that was said."""

    code: int | None

    def send(self, message: bytes) -> None:
        """Sends one message; the first is the connect command."""
        ...

    def cut(self) -> None:
        """Ends it without a word."""
        ...

    def messages(self) -> AsyncIterator[bytes]:
        """What comes, until it ends. Raises OSError, EOFError."""
        ...


class Refused(Exception):  # noqa: N818  it says what happened
    """A command was answered with an error, or not at all."""


class Follower:
    """Lives as long as its `run`, which ends when it is cancelled.

    `opened` connects, and raises OSError or EOFError if it cannot. With a `token` that subscribes it to its channels it
    asks for none itself.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], Awaitable[Connection]],
        channels: Sequence[str],
        ledger: Ledger,
        *,
        token: str = "",
    ) -> None:
        self.name = name
        self.trails = {channel: Trail(ledger, name, channel) for channel in channels}
        self.wanted = set(channels)
        """Channels that the client is to be subscribed to."""
        self._opened = opened
        self._ledger = ledger
        self._token = token
        self._connection: Connection | None = None
        self._is_in = False
        self._number = 0
        self._subscribing: dict[int, tuple[str, Place | None]] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Connects, and comes back whenever the connection ends."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    connection = await self._opened()
                self._connection = connection
                await self._follow(connection)
            except (OSError, TimeoutError, EOFError):
                pass  # the server is away, or the connection was lost
            failures = 0 if self._is_in else failures + 1
            self._over()
            longest = min(SHORTEST_PAUSE * 2**failures, LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311  spreads load

    def cut(self) -> None:
        """The connection ends without a word."""
        if self._connection is not None:
            self._connection.cut()

    async def publish(self, channel: str, data: Any) -> None:
        """Publishes as the client. Raises Refused; it may have been published all the same."""
        if not self._is_in:
            raise Refused
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[self._send({"publish": {"channel": channel, "data": data}})] = answer
        await answer

    def subscribe(self, channel: str) -> None:
        """The client wants a channel, and asks for what it missed since it was there."""
        if channel not in self.wanted:
            self.wanted.add(channel)
            self._subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """The client no longer wants a channel; it remembers where it was."""
        if channel in self.wanted:
            self.wanted.discard(channel)
            self.trails[channel].is_subscribed = False
            self._subscribing = {id_: each for id_, each in self._subscribing.items() if each[0] != channel}
            if self._is_in:
                self._send({"unsubscribe": {"channel": channel}})

    # The connection

    async def _follow(self, connection: Connection) -> None:
        request: dict[str, Any] = {"token": self._token} if self._token else {}
        if self._token:
            request["subs"] = {channel: trail.since for channel, trail in self.trails.items() if trail.place}
        asked = {channel: trail.place for channel, trail in self.trails.items()}
        self._write({"id": _CONNECT, "connect": request})
        try:
            async for message in connection.messages():
                for line in message.split(b"\n"):
                    self._take(msgspec.json.decode(line), asked)
        finally:
            connection.cut()
            self._closed(connection.code)

    def _closed(self, code: int | None) -> None:
        self._ledger.counts[f"closed {code}"] += 1
        if code is not None and (FIRST_FINAL <= code < 4000 or code >= 4500):
            self._ledger.violate(f"{self.name} is sent away with {code}")

    def _over(self) -> None:
        self._connection = None
        self._is_in = False
        self._subscribing.clear()
        for trail in self.trails.values():
            trail.is_subscribed = False
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Refused())
        self._asked.clear()

    def _take(self, told: Any, asked: dict[str, Place | None]) -> None:
        if push := told.get("push"):
            self._pushed(push)
        elif not told:
            self._write({})
        elif told["id"] == _CONNECT:
            self._connected(told, asked)
        else:
            self._answered(told)

    def _connected(self, told: Any, asked: dict[str, Place | None]) -> None:
        if "error" in told:
            self.cut()
            return
        self._is_in = True
        self._ledger.counts["connected"] += 1
        if not self._token:
            for channel in sorted(self.wanted):
                self._subscribe(channel)
            return
        subs = told["connect"].get("subs", {})
        if subs.keys() != self.trails.keys():
            self._ledger.violate(f"{self.name} is subscribed to {sorted(subs)} by its token")
        for channel, result in subs.items():
            self.trails[channel].subscribed(result, asked[channel])

    def _answered(self, told: Any) -> None:
        number = told["id"]
        if (answer := self._asked.pop(number, None)) is not None and not answer.done():
            if "error" in told:
                answer.set_exception(Refused())
            else:
                answer.set_result(told)
        if (subscribing := self._subscribing.pop(number, None)) is None:
            return
        channel, asked = subscribing
        if "subscribe" in told:
            self.trails[channel].subscribed(told["subscribe"], asked)
            return
        self._ledger.counts[f"refused {told['error']['code']}"] += 1
        if not told["error"].get("temporary"):
            self._ledger.violate(f"{self.name} may not subscribe to {channel}: {told['error']}")
        self._later(channel)

    def _pushed(self, push: Any) -> None:
        trail = self.trails[push["channel"]]
        if "pub" in push:
            trail.given(push["pub"])
        elif (told := push.get("unsubscribe")) and trail.is_subscribed:
            trail.is_subscribed = False
            self._ledger.counts[f"unsubscribed {told['code']}"] += 1
            if told["code"] < LAST_RETURN:
                self._ledger.violate(f"{self.name} is unsubscribed from {trail.channel}: {told}")
            self._subscribe(trail.channel)

    def _subscribe(self, channel: str) -> None:
        if self._is_in and channel in self.wanted:
            trail = self.trails[channel]
            number = self._send({"subscribe": {"channel": channel, "flag": 1, **trail.since}})
            self._subscribing[number] = (channel, trail.place)
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._overdue, number)

    def _overdue(self, number: int) -> None:
        """A stock client connects anew then; a command over HTTP may have been lost between processes."""
        if number in self._subscribing:
            self._ledger.counts["not answered"] += 1
            self.cut()

    def _later(self, channel: str) -> None:
        async def again() -> None:
            await asyncio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))  # noqa: S311  spreads load
            is_asked = any(each[0] == channel for each in self._subscribing.values())
            if not (is_asked or self.trails[channel].is_subscribed):
                self._subscribe(channel)

        task = asyncio.get_running_loop().create_task(again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, command: dict[str, Any]) -> int:
        self._number += 1
        self._write({"id": self._number, **command})
        return self._number

    def _write(self, command: dict[str, Any]) -> None:
        if self._connection is not None:
            self._connection.send(json.dumps(command).encode())
