"""Parts of the server that need no process: its sockets, its bounds, and what it relies on in uvicorn."""

import asyncio
import socket
from collections.abc import MutableMapping
from importlib.metadata import version
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hookcast_app.http_wire import HEAD_SECONDS, HttpServerState, HttpWire
from hookcast_app.lifespan import Interrupted, Lifespan
from hookcast_app.realtime.wire import RawWebSocket
from hookcast_app.server import TwoPorts, listen
from hookcast_app.settings import Settings
from hookcast_core.errors import InvalidInput, Reason


def test_uvicorn_has_what_we_override() -> None:
    """Undocumented parts: another version must be looked at before it is taken."""
    assert version("uvicorn") == "0.54.0"
    overridden = ("connection_made", "connection_lost", "data_received", "handle_websocket_upgrade", "_should_upgrade")
    called = ("send_400_response", "_unset_keepalive_if_required")
    for name in (*overridden, *called, "on_headers_complete", "on_body", "on_message_complete"):
        assert callable(getattr(HttpToolsProtocol, name))
    # `connection_made` is written anew: it must set all that uvicorn's sets.
    assert set(HttpToolsProtocol.connection_made.__code__.co_names) >= {"flow", "server", "client", "scheme"}
    for name in ("connections", "tasks", "default_headers"):
        assert hasattr(ServerState(), name)


def test_both_ports_listen_at_once() -> None:
    """Before the app is started: what comes meanwhile waits instead of being refused."""
    listeners = listen(Settings(port=0, admin_port=0))

    for listener in listeners:
        socket.create_connection(listener.getsockname(), timeout=5).close()

    listeners.close()


@pytest.mark.parametrize("prefix", ["", "admin_"])
def test_a_port_in_use_is_named(prefix: str) -> None:
    """The setting, the address and the way out; the other port is not left open."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"127.0.0.1:{port} is in use") as caught:
            listen(Settings(**{"port": 0, "admin_port": 0, f"{prefix}port": port}))

    assert caught.value.field == f"{prefix}port"
    assert caught.value.reason is Reason.ADDRESS_IN_USE


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "x" * 300])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    """A name that does not resolve, an address of another machine, nonsense."""
    with pytest.raises(InvalidInput) as caught:
        listen(Settings(host=host, port=0, admin_port=0))

    assert caught.value.field == "host"


def test_a_port_that_is_not_for_this_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 1024 without the right."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)

    with pytest.raises(InvalidInput, match="may not listen on 80") as caught:
        listen(Settings(port=80, admin_port=0))

    assert caught.value.field == "port"


def test_ipv6_is_listened_on() -> None:
    """Where the machine has it."""
    try:
        listeners = listen(Settings(host="::1", port=0, admin_port=0))
    except InvalidInput as error:
        pytest.skip(str(error))

    assert listeners.main.family is socket.AF_INET6
    listeners.close()


async def test_the_admin_app_gets_its_port_alone() -> None:
    """A connection without a known port, as from a unix socket, is a user's."""
    served: list[str] = []

    def app(name: str) -> ASGIApp:
        async def serve(_scope: Scope, _receive: Receive, _send: Send) -> None:
            served.append(name)

        return serve

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(_message: MutableMapping[str, Any]) -> None:
        return

    both = TwoPorts(app("main"), app("admin"), 9090)
    for server in (("127.0.0.1", 9090), ("127.0.0.1", 8000), ("/socket", None), None):
        await both({"type": "http", "server": server}, receive, send)
    await both({"type": "lifespan"}, receive, send)

    assert served == ["admin", "main", "main", "main", "main"]


class Wire:
    """A connection that only remembers that it was refused."""

    def __init__(self) -> None:
        self.said: bytes | None = None

    def refuse(self, status: bytes, _why: bytes) -> None:
        """As the real one."""
        self.said = status


def test_only_overdue_heads_are_refused() -> None:
    """Ten seconds are allowed; who is still within them is left alone."""
    state = HttpServerState()
    overdue, in_time = Wire(), Wire()
    state.waiting[overdue] = 100.0  # type: ignore[index]
    state.waiting[in_time] = 101.0  # type: ignore[index]

    assert state.close_slow_heads(100.5 + HEAD_SECONDS) == 1

    assert (overdue.said, in_time.said) == (b"408 Request Timeout", None)


async def test_a_websocket_owes_no_head() -> None:
    """Once the upgrade is taken, a client may be silent for as long as it likes."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    config = uvicorn.Config(app, ws=RawWebSocket, log_config=None)
    config.load()
    state = HttpServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpWire(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

        assert state.close_slow_heads(loop.time() + 2 * HEAD_SECONDS) == 0

        writer.close()
        await writer.wait_closed()


def test_a_closing_connection_is_not_answered() -> None:
    """Its peer is gone, or has its answer."""
    near, far = socket.socketpair()
    with near, far:
        wire = HttpWire.__new__(HttpWire)
        wire.server_state = HttpServerState()

        class Closing:
            def is_closing(self) -> bool:
                return True

        wire.transport = Closing()  # type: ignore[assignment]
        wire.refuse(b"431", b"")


def lifespan(app: ASGIApp) -> Lifespan:
    """The lifespan of `app`."""
    return Lifespan(app, lambda: False)


async def test_an_app_is_started_and_ended_in_one_task() -> None:
    """What it opens with `async with` it can close."""
    said: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["shared"] = 1
        for _ in range(2):
            phase = (await receive())["type"]
            said.append(phase)
            await send({"type": f"{phase}.complete"})

    own = lifespan(app)
    await own.startup()
    assert own.died() is None
    await own.shutdown()
    await own.end()

    assert said == ["lifespan.startup", "lifespan.shutdown"]
    assert own.state == {"shared": 1}
    assert own.died() is None


async def test_a_failed_start_keeps_its_error() -> None:
    """Raised as it was, whether or not the app also says that it failed (Starlette does both)."""

    async def raises(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "a traceback"})
        raise InvalidInput(Reason.REDIS_NOT_FOUND, "redis_url", "none")

    async def says(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "only said"})

    with pytest.raises(InvalidInput):
        await lifespan(raises).startup()
    with pytest.raises(RuntimeError, match="only said"):
        await lifespan(says).startup()


async def test_an_app_that_does_not_speak_the_protocol_is_a_failure() -> None:
    """Nothing would be opened."""

    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    with pytest.raises(RuntimeError, match=r"without answering lifespan\.startup"):
        await lifespan(silent).startup()


async def test_a_start_that_is_given_up_cleans_up() -> None:
    """The app is cancelled, and what it had opened is closed before `startup` returns."""
    opened, closed = asyncio.Event(), asyncio.Event()

    async def hangs(_scope: Scope, _receive: Receive, _send: Send) -> None:
        opened.set()
        try:
            await asyncio.sleep(3600)
        finally:
            closed.set()

    with pytest.raises(Interrupted):
        await Lifespan(hangs, opened.is_set).startup()

    assert closed.is_set()


@pytest.mark.parametrize("error", [None, RuntimeError("a task died")])
async def test_a_lifespan_that_ends_by_itself_is_noticed(error: Exception | None) -> None:
    """With its error, or the fact that it ended."""
    go_on = asyncio.Event()

    async def ends(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await go_on.wait()
        if error:
            raise error

    own = lifespan(ends)
    await own.startup()
    assert own.died() is None
    assert own._task is not None
    go_on.set()
    await asyncio.wait({own._task})

    assert str(own.died()) == (str(error) if error else "the app's lifespan ended by itself")
