"""A client of the protocol over HTTP: down it is a response that does not end, up it is one request after the other.

It is a `transport.Transport`: what comes up is given as a WebSocket's messages would be.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from hookcast_app.realtime.cors import RawHeaders
from hookcast_app.realtime.framing import PUSHES, Encoding
from hookcast_app.realtime.outbox import Outbox
from hookcast_app.realtime.protocol import SLOW, TOO_MANY_REQUESTS, Disconnect
from hookcast_app.realtime.transport import CLOSE_SECONDS, Message, Receive, Send

MAX_INBOUND = 262_144
"""Characters that may wait to be carried out."""
MAX_INBOUND_MESSAGES = 1_000
_GONE: Message = {"type": "websocket.disconnect"}


def disconnect_push(disconnect: Disconnect) -> bytes:
    """Tells a client why its stream ends; a WebSocket's close frame would say the same."""
    push = {"disconnect": {"code": disconnect.code, "reason": disconnect.reason}}
    return msgspec.json.encode({"push": push})


class EmulatedTransport:
    """One stream; lives from its request to the end of `aclose`. Must be made in a running loop.

    It answers 200 with `headers` and `opening` at once. `first` are the commands that came with the request, whose body
    must have been read. `on_excess` is told of an end that is the transport's own, for one of its bounds. `abort`
    drops the connection of a peer that does not read.
    """

    def __init__(
        self,
        name: str,
        encoding: Encoding,
        receive: Receive,
        send: Send,
        *,
        headers: RawHeaders,
        opening: bytes,
        first: bytes,
        on_excess: Callable[[Disconnect], None],
        abort: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.encoding = encoding
        self._encode = PUSHES[encoding]
        self._asgi_send = send
        self._asgi_receive = receive
        self._on_excess = on_excess
        self._abort = abort
        self._outbox = Outbox(self._overflowed)
        self.write = self._outbox.write
        self._farewell = b""
        self._inbound: deque[Message] = deque([{"type": "websocket.receive", "bytes": first}])
        self._inbound_size = 0
        self._news = asyncio.Event()
        self._is_over = False
        self._sender = asyncio.create_task(self._send_all(headers, opening), name="stream-send")
        self._watcher = asyncio.create_task(self._watch(), name="stream-watch")

    # Down

    def reply(self, line: bytes) -> None:
        """See Transport."""
        self._outbox.write(self._encode(line))

    def close(self, disconnect: Disconnect) -> None:
        """See Transport. The last thing that is sent says why."""
        if not self._is_over:
            self._farewell = self._encode(disconnect_push(disconnect))
            self._end()

    def _overflowed(self) -> None:
        self._exceeded(SLOW)

    def _exceeded(self, disconnect: Disconnect) -> None:
        self._on_excess(disconnect)
        self.close(disconnect)

    async def _send_all(self, headers: RawHeaders, opening: bytes) -> None:
        send = self._asgi_send
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": opening, "more_body": True})
            while chunk := await self._outbox.take():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": self._farewell})
        except OSError:
            pass  # the peer is gone; `receive` of ASGI says so too
        finally:
            self._end()

    # Up

    def take(self, text: str) -> None:
        """Commands that came by another request: they are carried out after those of before.

        A client whose commands come faster than they can be carried out is disconnected.
        """
        if self._is_over:
            return
        self._inbound.append({"type": "websocket.receive", "text": text})
        self._inbound_size += len(text)
        if self._inbound_size > MAX_INBOUND or len(self._inbound) > MAX_INBOUND_MESSAGES:
            self._exceeded(TOO_MANY_REQUESTS)
        self._news.set()

    async def receive(self) -> Message:
        """See Transport."""
        while not self._is_over:
            if self._inbound:
                message = self._inbound.popleft()
                self._inbound_size -= len(message.get("text", ""))
                return message
            self._news.clear()
            await self._news.wait()
        return _GONE

    async def _watch(self) -> None:
        while (await self._asgi_receive())["type"] != "http.disconnect":
            pass
        self._end()

    # The end

    def _end(self) -> None:
        """Nothing more comes in, and nothing goes out but what waits."""
        self._is_over = True
        self._inbound.clear()
        self._outbox.close()
        self._news.set()

    async def aclose(self) -> None:
        """See Transport. Raises what the tasks died of, if that was not the peer's going away."""
        self._end()
        tasks = {self._sender, self._watcher}
        try:
            _, late = await asyncio.wait({self._sender}, timeout=CLOSE_SECONDS)
            if late and self._abort is not None:
                # It does not read: what waits for it would be kept for as long as it likes.
                self._abort()
                await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
