"""The client's side of the protocol over server-sent events: one stream down, and one request after the other up."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from urllib.parse import quote

import msgspec

from hookcast_app.outgoing import AttemptFailed, HttpClient
from hookcast_core.egress import parse_url

_HEADERS = b"content-type: application/json\r\n"
_TIMEOUT_MS = 5_000


class EventStream:
    """One stream, as Socket is a WebSocket; its commands go to any process, as a load balancer would have it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        any_port: Callable[[], int],
        client: HttpClient,
    ) -> None:
        self.code: int | None = None
        self._reader = reader
        self._writer = writer
        self._any_port = any_port
        self._client = client
        self._session: dict[str, str] = {}
        self._is_asked = False
        self._up: asyncio.Queue[bytes] = asyncio.Queue()
        self._poster = asyncio.get_running_loop().create_task(self._post_all())

    def send(self, message: bytes) -> None:
        """The first is the connect command, which begins the stream."""
        if self._is_asked:
            self._up.put_nowait(message)
        elif not self._writer.is_closing():
            self._is_asked = True
            line = f"GET /connection/sse?cf_connect={quote(message)} HTTP/1.1\r\nHost: a\r\n\r\n"
            self._writer.write(line.encode())

    def cut(self) -> None:
        """Ends the stream without a word."""
        self._poster.cancel()
        self._writer.transport.abort()

    async def messages(self) -> AsyncIterator[bytes]:
        """What comes, until the stream ends. Raises OSError, or EOFError if it ends without a reason."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise EOFError(head)
        buffer = bytearray()
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            buffer += (await self._reader.readexactly(size + 2))[:-2]
            for data in _events(buffer):
                told = msgspec.json.decode(data)
                if end := told.get("push", {}).get("disconnect"):
                    self.code = end["code"]
                    return
                if connected := told.get("connect"):
                    self._session = {name: connected[name] for name in ("session", "node")}
                yield data
        raise EOFError

    async def _post_all(self) -> None:
        while True:
            commands = (await self._up.get()).decode()
            body = {**self._session, "data": commands}
            url = parse_url(f"http://127.0.0.1:{self._any_port()}/emulation")
            status = 0
            with suppress(AttemptFailed):
                answer = await self._client.post(url, _HEADERS, json.dumps(body).encode(), timeout_ms=_TIMEOUT_MS)
                status = answer.status
            if status != 204:
                # Stock clients come back then, to another process if need be.
                self._writer.transport.abort()
                return


def _events(buffer: bytearray) -> Iterator[bytes]:
    """Takes what is whole out of the buffer: the data of each event (HTML, 9.2.6), of which ours have one line."""
    while (end := buffer.find(b"\n\n")) >= 0:
        event = bytes(buffer[:end]).lstrip(b"\r\n")
        del buffer[: end + 2]
        if event.startswith(b"data: "):
            yield event.removeprefix(b"data: ")


async def streamed(any_port: Callable[[], int], client: HttpClient) -> EventStream:
    """A connection on which a stream can begin. Raises OSError."""
    return EventStream(*await asyncio.open_connection("127.0.0.1", any_port()), any_port, client)
