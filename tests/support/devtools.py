"""A page in a browser, driven over the Chrome DevTools Protocol (1.3, with flat sessions)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE = 30.0
"""Seconds that an answer of the browser may take."""
Event = dict[str, Any]


class Page:
    """A tab with cookies, storage and connections of its own; lives within `opened`."""

    def __init__(self, connection: ClientConnection, on_event: Callable[[Event], None]) -> None:
        self.session = ""
        """The tab's; empty for the browser's."""
        self._connection = connection
        self._on_event = on_event
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, method: str, **params: Any) -> Any:
        """Calls a method of the protocol. Raises AssertionError if it is refused, or not answered."""
        number = len(self._answers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        session = {"sessionId": self.session} if self.session else {}
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        async with asyncio.timeout(PATIENCE):
            said = await answer
        assert "error" not in said, (method, said["error"])
        return said["result"]

    async def run(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression, once it is settled. Raises AssertionError if it throws."""
        said = await self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def read(self) -> None:
        """Takes in answers and events until the connection ends."""
        async for message in self._connection:
            said = json.loads(message)
            if "id" in said:
                self._answers[said["id"]].set_result(said)
            else:
                self._on_event({"event": said["method"], **said["params"]})


@asynccontextmanager
async def opened(devtools: str, on_event: Callable[[Event], None]) -> AsyncIterator[Page]:
    """An empty page of the browser with that URL. Events have their fields and, as `event`, their name."""
    async with connect(devtools, ping_interval=None, proxy=None, max_size=None) as connection:
        page = Page(connection, on_event)
        reading = asyncio.create_task(page.read())
        try:
            context = (await page.ask("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
            target = await page.ask("Target.createTarget", url="about:blank", browserContextId=context)
            attached = await page.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page.session = attached["sessionId"]
            yield page
            page.session = ""
            # Only when this is answered are its connections gone.
            await page.ask("Target.disposeBrowserContext", browserContextId=context)
        finally:
            await connection.close()
            await reading
