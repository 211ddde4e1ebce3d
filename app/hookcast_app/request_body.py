"""Reads a request's body within limits of size and time, for handlers that take raw bytes."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Send

from hookcast_core.errors import InvalidInput, Reason

BODY_SECONDS = 30.0
LINGER_SECONDS = 1.0
LINGER_BYTES = 1_048_576


class Disconnected(Exception):  # noqa: N818  it is no error of anybody's
    """The client went away before it had sent its request; nobody is there to be answered."""


class RequestBody:
    """One request's body; `what` is what it holds, for the refusal of a larger one."""

    def __init__(self, receive: Receive, what: str) -> None:
        self._receive = receive
        self._what = what
        self.is_complete = False

    async def read(self, announced: str, limit: int, seconds: float | None = None) -> bytes:
        """The whole body, within `seconds` or BODY_SECONDS; `announced` is its Content-Length, if any.

        Raises InvalidInput TOO_LARGE above `limit` bytes, without reading the rest, and Disconnected.
        """
        if announced.isdecimal() and int(announced) > limit:
            raise too_large(int(announced), limit, self._what)
        body = bytearray()
        seconds = BODY_SECONDS if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                while not self.is_complete and len(body) <= limit:
                    body += await self._next()
        except TimeoutError as error:
            raise InvalidInput(Reason.REQUEST_TIMEOUT, None, f"the body did not arrive within {seconds:g} s") from error
        if len(body) > limit:
            raise too_large(None, limit, self._what)
        return bytes(body)

    async def refuse(self, response: Response, send: Send) -> None:
        """Answers; what was not read of the body is not, but for a little, so that the client sees the answer.

        A connection that is closed while data is on its way is reset, and takes the answer with it.
        """
        if not self.is_complete:
            response.headers["connection"] = "close"
        head = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        await send(head)
        await send({"type": "http.response.body", "body": response.body, "more_body": not self.is_complete})
        if not self.is_complete:
            await self.linger()
            await send({"type": "http.response.body", "body": b""})

    async def linger(self) -> None:
        """Reads on and forgets, for LINGER_SECONDS and LINGER_BYTES at most."""
        size = 0
        with contextlib.suppress(Disconnected, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.is_complete and size < LINGER_BYTES:
                    size += len(await self._next())

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self.is_complete = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def too_large(size: int | None, limit: int, what: str) -> InvalidInput:
    """The refusal of a body over the limit; `size` is None where it was not announced."""
    seen = "more" if size is None else str(size)
    return InvalidInput(Reason.TOO_LARGE, None, f"{what} has at most {limit} bytes, this has {seen}")
