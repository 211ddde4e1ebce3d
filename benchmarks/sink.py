"""A receiver that costs as little as it can: answers 200 with an empty body, and counts requests by path.

Reads requests that have a Content-Length, several in one read or one over several. `GET /counts` answers the counts
as JSON and starts them again. Run alone, it prints its port: python -m benchmarks.sink [--port 0] [--cpu 1]
"""

import argparse
import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import cast

import uvloop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
COUNTS = b"/counts"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Receiver(asyncio.Protocol):
    """One connection; how a request is answered is for those that inherit it."""

    __slots__ = ("_buffer", "_transport")

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport

    def answer(self, data: bytes, start: int) -> bytes:
        """The response to the request that begins there; empty is none."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every whole request with one write."""
        data = self._buffer + data if self._buffer else data
        start, answers = 0, []
        while (end := request_end(data, start)) >= 0:
            answers.append(self.answer(data, start))
            start = end
        self._buffer = data[start:]
        if answers:
            self._transport.write(b"".join(answers) if len(answers) > 1 else answers[0])


class Sink(Receiver):
    """Counts; `counts` is shared by all connections."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Counter[bytes]) -> None:
        super().__init__()
        self._counts = counts

    def answer(self, data: bytes, start: int) -> bytes:
        """Answers 200, or the counts."""
        path = path_of(data, start)
        if path == COUNTS:
            answer = json_answer({path.decode("latin-1"): count for path, count in self._counts.items()})
            self._counts.clear()
            return answer
        self._counts[path] += 1
        return OK


def request_end(data: bytes, start: int) -> int:
    """Index after the request that begins at `start`, or -1 while it is not whole."""
    head_end = data.find(b"\r\n\r\n", start)
    if head_end < 0:
        return -1
    length = _LENGTH.search(data, start, head_end)
    end = head_end + 4 + (int(length[1]) if length else 0)
    return end if end <= len(data) else -1


def path_of(data: bytes, start: int) -> bytes:
    """The target of the request that begins at `start`."""
    begin = data.index(b" ", start) + 1
    return data[begin : data.index(b" ", begin)]


def json_answer(content: object) -> bytes:
    """A whole response with this content."""
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def serve(port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve on loopback for ever; the port is the first line printed."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(protocol: Callable[[], asyncio.Protocol], description: str | None) -> None:
    """The command of a receiver."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cpu", type=int, help="pin the process to this processor")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    uvloop.run(serve(options.port, protocol))


if __name__ == "__main__":
    counts: Counter[bytes] = Counter()
    main(lambda: Sink(counts), __doc__)
