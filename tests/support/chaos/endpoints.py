"""Many endpoints on one port, good and bad, that keep count of the numbered events that they get.

An event's id is `KEY-NUMBER`, both whole numbers: its ordering key, and its place among those of that key.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, cast, get_args

import msgspec

Kind = Literal[
    "healthy",
    "fifo",
    "slow",
    "flaky",
    "fifo-flaky",
    "overlong",
    "failing",
    "hanging",
    "resetting",
    "garbage",
    "endless",
    "cut",
]
KINDS: tuple[Kind, ...] = ("healthy", "fifo", "flaky", "fifo-flaky", *get_args(Kind))
"""What endpoints are, in turn: of the good ones, and of those that keep an order, there are more."""
GOOD: frozenset[Kind] = frozenset({"healthy", "fifo", "slow", "flaky", "fifo-flaky", "overlong"})
"""They take everything in the end; the others take nothing until they are healed."""
FIFO: frozenset[Kind] = frozenset({"fifo", "fifo-flaky"})
SLOW_SECONDS = 0.05
FLAKY = {"flaky": 0.1, "fifo-flaky": 0.01}
"""The part of requests that fail; each of a FIFO subscription holds up all that follow it of its key."""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class _Event(msgspec.Struct):
    id: str


_event = msgspec.json.Decoder(_Event).decode


class Tally:
    """How often each number of one ordering key came; numbers that came first after a higher one are `late`."""

    def __init__(self) -> None:
        self.counts = bytearray()
        self.total = 0
        self.late: list[int] = []

    def add(self, number: int) -> None:
        """One more of this number."""
        self.total += 1
        if number >= len(self.counts):
            self.counts.extend(bytes(number + 1 - len(self.counts)))
        elif not self.counts[number]:
            self.late.append(number)
        self.counts[number] = min(self.counts[number] + 1, 255)

    def lacks(self, until: int) -> list[int]:
        """The numbers below `until` that did not come."""
        counts = self.counts.ljust(until, b"\0")
        return [number for number in range(until) if not counts[number]]

    @property
    def repeated(self) -> int:
        """How many came that had come before."""
        return self.total - (len(self.counts) - self.counts.count(0))


class Endpoint:
    """What arrived at one path, and what of that it took (answered 200), by ordering key."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.arrived: dict[int, Tally] = defaultdict(Tally)
        self.taken: dict[int, Tally] = defaultdict(Tally)

    @property
    def late(self) -> list[str]:
        """Events that arrived for the first time after a later one of their key."""
        return [f"{key}-{number}" for key, tally in self.arrived.items() for number in tally.late]

    @property
    def repeated(self) -> int:
        """How many deliveries it took that it had taken before."""
        return sum(tally.repeated for tally in self.taken.values())


class Endpoints:
    """All of them by path; `heal` makes every one answer 200."""

    def __init__(self, count: int) -> None:
        self.by_path = {f"/{number}": Endpoint(KINDS[number % len(KINDS)]) for number in range(count)}
        self.chance = random.Random()  # noqa: S311  any answers will do
        self.url = ""
        self.healed = False

    def heal(self) -> None:
        """From now on all of them take everything."""
        self.healed = True


@asynccontextmanager
async def serving_endpoints(count: int) -> AsyncIterator[Endpoints]:
    """Endpoints on a free port of the loopback interface."""
    endpoints = Endpoints(count)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(endpoints), "127.0.0.1", 0, backlog=1024)
    async with server:
        endpoints.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield endpoints
        server.close()


class _Connection(asyncio.Protocol):
    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._buffer = b""
        self._transport: asyncio.Transport
        self._answers: dict[Kind, Callable[[Callable[[], None]], None]] = {
            "slow": self._slow,
            "overlong": self._overlong,
            "failing": lambda _take: self._transport.write(UNAVAILABLE),
            "hanging": lambda _take: None,
            "resetting": lambda _take: self._transport.abort(),
            "garbage": lambda _take: self._end_with(b"\x00\xff not HTTP\r\n\r\n"),
            "endless": lambda _take: self._transport.write(b"HTTP/1.1 200 OK\r\n" + b"x-more: of it\r\n" * 4_000),
            "cut": lambda _take: self._end_with(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all of it"),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._transport.is_closing() and (end := _request_end(self._buffer)):
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        endpoint = self._endpoints.by_path[head.split(b" ", 2)[1].decode()]
        key, _, place = _event(body).id.partition("-")
        ordering_key, number = int(key), int(place)
        endpoint.arrived[ordering_key].add(number)

        def take() -> None:
            endpoint.taken[ordering_key].add(number)

        kind = endpoint.kind
        if not self._endpoints.healed and self._endpoints.chance.random() < FLAKY.get(kind, 0):
            self._transport.write(UNAVAILABLE)
        elif not self._endpoints.healed and kind in self._answers:
            self._answers[kind](take)
        else:
            take()
            self._transport.write(OK)

    def _slow(self, take: Callable[[], None]) -> None:
        def answer() -> None:
            if not self._transport.is_closing():  # else its answer reaches nobody
                take()
                self._transport.write(OK)

        asyncio.get_running_loop().call_later(SLOW_SECONDS, answer)

    def _overlong(self, take: Callable[[], None]) -> None:
        """More than it says, and what is too much looks like the answer to the next request."""
        take()
        self._transport.write(OK + OK)
        self._answers = dict.fromkeys(get_args(Kind), lambda _take: self._transport.abort())

    def _end_with(self, answer: bytes) -> None:
        self._transport.write(answer)
        self._transport.close()


def _request_end(data: bytes) -> int:
    """Where the first request ends, 0 while it is not whole; each has a Content-Length."""
    head_end = data.find(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, head_end) if head_end >= 0 else None
    end = head_end + 4 + int(length[1]) if length else 0
    return end if end <= len(data) else 0
