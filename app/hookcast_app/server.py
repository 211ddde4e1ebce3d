"""One process, one event loop, two ports: who serves which, who owns the signals, and in which order it ends."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import NamedTuple, Protocol

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hookcast_app.health import Health
from hookcast_app.http_wire import HttpServerState, HttpWire
from hookcast_app.lifespan import Interrupted, Lifespan
from hookcast_app.settings import Settings
from hookcast_core.errors import InvalidInput, Reason

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of the usual balancers (60 s), or they would send into connections that we just closed."""
CLOSE_SECONDS = 5
"""How long answers under way may take once nothing new is accepted."""
CLOSE_SECONDS_EMBEDDED = 1
"""The same where a developer waits after Ctrl-C; more than a stalled WebSocket takes."""
LIFESPAN_SECONDS = 20.0
"""How long the app may take to close what it opened: the embedded Redis alone may take 10."""
DRAIN_MARGIN_SECONDS = 2.0
_POLL_SECONDS = 0.05

_log = structlog.get_logger("hookcast")


class Application(Protocol):
    """What is served. `main` runs the lifespan; `failed` is what a background task died of."""

    @property
    def main(self) -> ASGIApp: ...  # noqa: D102  named by the class
    @property
    def admin(self) -> ASGIApp: ...  # noqa: D102
    @property
    def health(self) -> Health: ...  # noqa: D102
    @property
    def failed(self) -> BaseException | None: ...  # noqa: D102
    async def drain(self, seconds: float) -> None: ...  # noqa: D102


class Grace(NamedTuple):
    """The time that an orderly end takes: unready but accepting, then draining, then closing. Seconds."""

    delay: float
    drain: float
    close: int


def grace_of(settings: Settings) -> Grace:
    """As set; not set and with the embedded Redis short, for that process is alone and no balancer has to notice."""
    if not settings.has_embedded_redis:
        return Grace(settings.drain_delay, settings.drain, CLOSE_SECONDS)
    given = settings.model_fields_set
    return Grace(
        settings.drain_delay if "drain_delay" in given else 0.0,
        settings.drain if "drain" in given else 2.0,
        CLOSE_SECONDS_EMBEDDED,
    )


class Listeners(NamedTuple):
    """The two listening sockets."""

    main: socket.socket
    admin: socket.socket

    def close(self) -> None:
        """Closes both; harmless when they are closed."""
        self.main.close()
        self.admin.close()


def listen(settings: Settings) -> Listeners:
    """Listens on both ports. Raises InvalidInput that names the setting at fault; then neither is left open."""
    main = _listen(settings.host, settings.port, "")
    try:
        return Listeners(main, _listen(settings.admin_host, settings.admin_port, "admin_"))
    except InvalidInput:
        main.close()
        raise


class TwoPorts:
    """Gives a connection on the admin port to the admin app, and every other, and the lifespan, to the main one.

    The port is that of our own end of the socket (`scope["server"]`), so no header, proxied or not, can choose it.
    """

    def __init__(self, main: ASGIApp, admin: ASGIApp, admin_port: int) -> None:
        self._main = main
        self._admin = admin
        self._admin_port = admin_port

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """ASGI."""
        server = scope.get("server")
        app = self._admin if server is not None and server[1] == self._admin_port else self._main
        return app(scope, receive, send)


class HookcastServer(uvicorn.Server):
    """uvicorn with our lifetimes. Used once; `run` returns after an orderly end and raises why it could not start."""

    def __init__(
        self,
        application: Application,
        listeners: Listeners,
        grace: Grace,
        websocket: type[asyncio.Protocol] | None,
    ) -> None:
        super().__init__(_config(application, listeners, grace.close, websocket))
        self.failed: BaseException | None = None
        self.server_state: HttpServerState = HttpServerState()
        self._application = application
        self._listeners = listeners
        self._grace = grace
        self.config.load()
        self._own_lifespan = Lifespan(application.main, lambda: self.should_exit)
        # uvicorn makes the lifespan from a class; it is never told that this one exists already.
        self.config.lifespan_class = lambda _config: self._own_lifespan

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the app, then accepts. Raises what the app raised, or Interrupted."""
        await super().startup(sockets)
        main, admin = (_url(listener) for listener in self._listeners)
        _log.info("listening", main=main, admin=admin)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            self.server_state.close_slow_heads(asyncio.get_running_loop().time())
        self.failed = self._application.failed or self._own_lifespan.died()
        if self.failed is not None and not self.should_exit:
            _log.critical("a background task died; the process ends", exc_info=self.failed)
            self._application.health.turn_unready("a background task died")
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Unready but accepting, draining, closing, lifespan's end: each bounded, and cut short by a second signal."""
        _log.info("stopping", delay_s=self._grace.delay, drain_s=self._grace.drain)
        self._application.health.turn_unready("the process is stopping")
        if self.failed is None:
            await self._until(lambda: False, self._grace.delay)
        await self._drain()
        await super().shutdown(sockets)
        await self._end_lifespan()
        _log.info("stopped")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signals again at the end: an orderly end is exit status 0."""
        originals = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, original in originals.items():
                signal.signal(number, original)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  a signal handler's shape
        """The first signal ends the process in order; a second one skips the waiting."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def _drain(self) -> None:
        draining = asyncio.create_task(self._application.drain(self._grace.drain), name="drain")
        await self._until(draining.done, self._grace.drain + DRAIN_MARGIN_SECONDS)
        if not draining.done():
            draining.cancel()
            _log.warning("draining took too long and was cut short")
        (result,) = await asyncio.gather(draining, return_exceptions=True)
        if isinstance(result, Exception):
            _log.error("draining failed", exc_info=result)

    async def _until(self, is_done: Callable[[], bool], seconds: float) -> None:
        """Waits for `is_done`, for `seconds` at most, and not at all after a second signal."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # A signal's handler runs outside the loop and can wake no event: what it sets is polled.
        while not is_done() and not self.force_exit and loop.time() < deadline:  # noqa: ASYNC110  see above
            await asyncio.sleep(_POLL_SECONDS)

    async def _end_lifespan(self) -> None:
        try:
            await asyncio.wait_for(self._own_lifespan.end(), LIFESPAN_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever the app raises, the process ends
            _log.error("the app did not close in order", exc_info=error)
            self.failed = self.failed or error


def serve_application(
    settings: Settings, application: Application, listeners: Listeners, websocket: type[asyncio.Protocol] | None
) -> int:
    """Serves until a signal or a failure; the process's exit status: 0 after an orderly end, 1 after a failed task.

    Raises what the app raised when it could not start.
    """
    server = HookcastServer(application, listeners, grace_of(settings), websocket)
    try:
        server.run(sockets=list(listeners))
    except Interrupted:
        _log.info("stopped before the start was complete")
        return 0
    finally:
        listeners.close()
    return 0 if server.failed is None else 1


def _config(
    application: Application, listeners: Listeners, close_seconds: int, websocket: type[asyncio.Protocol] | None
) -> uvicorn.Config:
    return uvicorn.Config(
        TwoPorts(application.main, application.admin, listeners.admin.getsockname()[1]),
        interface="asgi3",
        loop="auto",
        http=HttpWire,
        ws="none" if websocket is None else websocket,
        log_config=None,
        access_log=False,  # the correlation layer tells each request
        proxy_headers=False,  # any client could claim any address
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=close_seconds,
    )


def _listen(host: str, port: int, prefix: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            Reason.INVALID_SETTING, f"{prefix}host", f"{host!r} is no address of this machine"
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: two processes may both bind a port, and only the second listen() fails.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port, prefix) from error
    listener.setblocking(False)
    return listener


def _refusal(error: OSError, host: str, port: int, prefix: str) -> InvalidInput:
    if error.errno == errno.EADDRINUSE:
        detail = f"{host}:{port} is in use; stop what listens there, or choose another port (0 takes a free one)"
        return InvalidInput(Reason.ADDRESS_IN_USE, f"{prefix}port", detail)
    if error.errno == errno.EACCES:
        return InvalidInput(
            Reason.INVALID_SETTING, f"{prefix}port", f"this user may not listen on {port}; take one ≥ 1024"
        )
    return InvalidInput(Reason.INVALID_SETTING, f"{prefix}host", f"cannot listen on {host}: {error.strerror}")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
