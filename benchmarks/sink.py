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
from typing import cast

import uvloop

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
COUNTS = b"/counts"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Sink(asyncio.Protocol):
    """One connection; `counts` is shared by all."""

    __slots__ = ("_buffer", "_counts", "_transport")

    def __init__(self, counts: Counter[bytes]) -> None:
        self._counts = counts
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every whole request with one write."""
        data = self._buffer + data if self._buffer else data
        start, answers = 0, []
        while (end := request_end(data, start)) >= 0:
            answers.append(self._answer(data, start))
            start = end
        self._buffer = data[start:]
        if answers:
            self._transport.write(b"".join(answers) if len(answers) > 1 else answers[0])

    def _answer(self, data: bytes, start: int) -> bytes:
        begin = data.index(b" ", start) + 1
        path = data[begin : data.index(b" ", begin)]
        if path == COUNTS:
            return counts_answer(self._counts)
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


def counts_answer(counts: Counter[bytes]) -> bytes:
    """Answer the counts so far, which start again."""
    body = json.dumps({path.decode("latin-1"): count for path, count in counts.items()}).encode()
    counts.clear()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def serve(port: int) -> None:
    """Serve on loopback for ever; the port is the first line printed."""
    counts: Counter[bytes] = Counter()
    server = await asyncio.get_running_loop().create_server(lambda: Sink(counts), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cpu", type=int, help="pin the process to this processor")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    uvloop.run(serve(options.port))


if __name__ == "__main__":
    main()
