"""The npm client in a browser, on pages of two origins that are not the server's."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.integration.realtime.conformance.stock import Npm, endpoints
from tests.integration.realtime.conformance.target import Target
from tests.support.browser import SITE
from tests.support.devtools import Event, Page, opened

COOKIE = "session"
"""Name of the cookie that may hold a token."""
_FILES = {
    "/": ("text/html", None),
    "/centrifuge.js": ("text/javascript", "node_modules/centrifuge/dist/centrifuge.js"),
    "/commands.mjs": ("text/javascript", "commands.mjs"),
    "/page.mjs": ("text/javascript", "page.mjs"),
}
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>Conformance</title><link rel="icon" href="data:,">
<script src="/centrifuge.js"></script><script type="module" src="/page.mjs"></script>"""


class Tab(Npm):
    """A page with the client; what the DevTools tell is told as well, under their names."""

    page: Page

    async def do(self, action: str, /, **fields: Any) -> None:
        await self.page.run(f"handle({json.dumps({'do': action, **fields})})")

    async def visit(self, origin: str) -> None:
        """Goes to another page, and waits for it."""
        await self.page.ask("Page.navigate", url=f"{origin}/")
        await self.event("ready")

    def hear(self, event: Event) -> None:
        """Takes in an event of the DevTools."""
        self.tell(json.loads(event["payload"]) if event["event"] == "Runtime.bindingCalled" else event)


@asynccontextmanager
async def tab(devtools: str, origin: str) -> AsyncIterator[Tab]:
    """A page of that origin in a browser. What it throws fails the test."""
    client = Tab()
    async with opened(devtools, client.hear) as client.page:
        for domain in ("Page", "Runtime", "Network"):
            await client.page.ask(f"{domain}.enable")
        await client.page.ask("Runtime.addBinding", name="tell")
        await client.visit(origin)
        yield client
    assert client.seen("Runtime.exceptionThrown") == []


@dataclass(frozen=True)
class Scene:
    """A server and two pages, as a browser knows them: other origins, of one site."""

    target: Target
    api: str
    """The server's URL."""
    app: str
    """The origin that the settings name."""
    other: str
    """An origin that they do not."""

    @property
    def ws(self) -> str:
        """The server's URL, for WebSockets."""
        return self.api.replace("http", "ws", 1)

    async def start(self, js: Tab, url: str = "", by: str = "websocket", **options: Any) -> Any:
        """Connects `ann` with a token, by these transports, to that URL if it is given; the `connected` event."""
        url = url or self.api
        all_options = {"token": self.target.token("ann"), "emulationEndpoint": f"{url}/emulation", **options}
        await js.do("connect", endpoint=endpoints(url, *by.split()), options=all_options)
        return await js.event("connected")


def named(host: str, url: str) -> str:
    """That URL under another name of this machine, which makes it one of another origin."""
    return urlsplit(url)._replace(netloc=f"{host}.{SITE}:{urlsplit(url).port}").geturl()


@asynccontextmanager
async def pages(node_tests: Path) -> AsyncIterator[str]:
    """The URL of a plain HTTP server that has nothing but the page."""
    contents = {
        path: (kind, _PAGE if file is None else (node_tests / file).read_bytes())
        for path, (kind, file) in _FILES.items()
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            kind, body = contents[head.split()[1].decode()]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n" % kind.encode())
            writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # browsers open connections that they then do not need
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
