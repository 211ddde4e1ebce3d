"""A client without any library, as short as one can be written, and the channels that its tests are on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.integration.realtime.server import PATIENCE, Server, Speaker, token

NAMESPACES = {
    "": {"subscribe": "authenticated"},
    "ws": {"subscribe": "anyone", "publish": "authenticated", "presence": True, "join_leave": True},
    "chat": {"subscribe": "anyone", "publish": "subscribers", "presence": True, "join_leave": True, "history_size": 10},
}
QUIET = {
    "ws": {"subscribe": "anyone", "publish": "subscribers"},
    "chat": {"subscribe": "anyone", "publish": "subscribers"},
}


class Plain(Speaker):
    """A client, as short as one can be written."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self.welcome: Any = None

    async def send(self, said: Any) -> None:
        await self.connection.send(said if isinstance(said, bytes | str) else json.dumps(said))

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            content = await self.connection.recv()
        return content if isinstance(content, bytes) else json.loads(content)


@asynccontextmanager
async def plain(
    server: Server, path: str, user: str | None = None, *, welcomed: bool = True, **options: Any
) -> AsyncIterator[Plain]:
    """A client that is let in, as `user` if there is one; where joins are told its own is read."""
    url = f"ws://127.0.0.1:{server.port}{path}"
    if user is not None:
        url += ("&" if "?" in path else "?") + f"token={token(user)}"
    async with connect(url, ping_interval=None, **options) as connection:
        speaker = Plain(connection)
        if welcomed:
            speaker.welcome = await speaker.next()
            assert speaker.welcome["type"] == "welcome", speaker.welcome
            if server.realtime._endpoint._context.rules.options(speaker.welcome["channel"]).join_leave:
                assert (await speaker.next())["type"] == "join"
        yield speaker
