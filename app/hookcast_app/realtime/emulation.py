"""`POST /emulation`: commands of a client whose stream is here, or at another process over the same Redis."""

import re

import msgspec

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.control import Emulated
from hookcast_app.realtime.cors import Origins
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.gate import Gate, answer_empty, read_commands
from hookcast_app.realtime.nodes import Nodes
from hookcast_app.realtime.transport import Message, Receive, Send
from hookcast_app.request_body import RequestBody
from hookcast_core.errors import InvalidInput, Reason

PATH = "/emulation"
METHODS = "POST, OPTIONS"
PART = 8_192
"""Bytes of a body that count as one request for the limit of its address."""
_NODE = re.compile(r"[0-9a-f-]{36}")
_UNKNOWN_NODE = InvalidInput(Reason.NOT_FOUND, "node", "no process here has that name; connect again")


class _Request(msgspec.Struct, frozen=True):
    """`session` and `node` are those of the connect reply; `data` are commands, one on each line."""

    session: str = ""
    node: str = ""
    data: str = ""


_requests = msgspec.json.Decoder(_Request)


class EmulationEndpoint:
    """Passes on; lives as long as the server.

    Its answer is 204 without waiting for the commands to be carried out: their replies come down the stream, which
    also says whether it has ended. Only whoever was given a session knows it, so it is all that is asked for.
    """

    def __init__(self, context: Context, door: Door, nodes: Nodes, origins: Origins) -> None:
        self._context = context
        self._door = door
        self._nodes = nodes
        self._origins = origins

    def application(self) -> Gate:
        """For ASGI."""
        return Gate(PATH, METHODS, self._serve, origins=self._origins, stats=self._context.stats)

    async def _serve(self, scope: Message, body: RequestBody, _receive: Receive, send: Send) -> None:
        self._door.post(scope)
        content = await read_commands(scope, body, self._context.timing.connect)
        for _ in range(len(content) // PART):
            self._door.post(scope)
        await self._pass_on(_read(content))
        await answer_empty(send, self._origins.answer_headers(scope["headers"]))

    async def _pass_on(self, request: _Request) -> None:
        """Raises InvalidInput, Unavailable."""
        message = Emulated(request.session, request.data)
        if request.node == self._nodes.uid:
            self._context.clients.pass_on(message)
            return
        if _NODE.fullmatch(request.node) is None:
            raise _UNKNOWN_NODE
        async with self._context.time_limit():
            is_there = await self._nodes.tell(request.node, message)
        if not is_there:
            raise _UNKNOWN_NODE


def _read(content: bytes) -> _Request:
    """Raises InvalidInput."""
    try:
        return _requests.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = 'send {"session": …, "node": …, "data": …} as JSON, three texts; data holds commands, one on each line'
        raise InvalidInput(Reason.INVALID_REQUEST, None, detail) from error
