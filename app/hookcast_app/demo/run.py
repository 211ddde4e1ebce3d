"""Starts the server, the receiver and the subscriber in one process, publishes a first event, and stays."""

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from pydantic_settings import SettingsError

from hookcast_app.demo import texts
from hookcast_app.demo.receiver import Receiver, serving
from hookcast_app.demo.samples import HOST, PORT, Samples, open_samples
from hookcast_app.demo.screen import Screen
from hookcast_app.demo.subscriber import Subscriber
from hookcast_app.first_start import with_keys
from hookcast_app.lifespan import Interrupted
from hookcast_app.main import create_app
from hookcast_app.observability import configure_logs
from hookcast_app.realtime import RawWebSocket
from hookcast_app.server import HookcastServer, Listeners, grace_of, listen
from hookcast_app.settings import ChannelOptions, Settings
from hookcast_app.settings_errors import explain_settings
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.signing import Key, parse_secret

USAGE = 2
FIRST_EVENT_SECONDS = 10.0
"""How long the first event may take before the demo says that something is wrong."""
_POLL_SECONDS = 0.02
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  compared, not listened on


def run(environment: Mapping[str, str], stream: TextIO) -> int:
    """Runs the demo until SIGINT or SIGTERM; the exit status. What the user has to change is one line on stderr."""
    try:
        with ExitStack() as stack:
            demo = _prepare(environment, stream, stack)
            with asyncio.Runner(loop_factory=demo.server.config.get_loop_factory()) as runner:
                return runner.run(demo.run())
    except InvalidInput as error:
        sys.stderr.write(f"hookcast: {' '.join(texts.refused(error).split())}\n")
        return USAGE
    except Interrupted:
        return 0


def demo_settings(samples: Samples, environment: Mapping[str, str]) -> Settings:
    """The environment's settings, but open to whoever is on this machine, and quiet unless asked. InvalidInput."""
    quiet = {"log_level": "warning", "log_format": "text"}
    return _settings(
        role="all",
        manifests=samples.directory,
        egress_allow=(f"{HOST}:{samples.port}",),
        realtime_anonymous=True,
        channel_namespaces={"": ChannelOptions(subscribe="anyone")},
        **{name: value for name, value in quiet.items() if f"HOOKCAST_{name.upper()}" not in environment},
    )


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**given)
    except (SettingsError, ValueError) as error:
        raise InvalidInput(Reason.INVALID_SETTING, None, explain_settings(error, given)) from error


def _prepare(environment: Mapping[str, str], stream: TextIO, stack: ExitStack) -> "_Demo":
    """Takes the three ports and makes the keys; `stack` closes what was opened. Raises InvalidInput."""
    samples = open_samples(environment, _settings().data_dir)
    stack.callback(samples.close)
    settings = demo_settings(samples, environment)
    configure_logs(settings.log_level, settings.log_format)
    listeners = listen(settings)
    stack.callback(listeners.close)
    # Nothing of the environment: a development pod of a cluster is no place where others would need the same keys.
    settings = with_keys(settings, {}).settings
    return _Demo(settings, samples, listeners, _publisher(settings), stream)


def _publisher(settings: Settings) -> str:
    """The first API key that may publish."""
    for key in settings.api_keys:
        if "events:write" in key.scopes:
            return key.key.get_secret_value()
    detail = "no key has the scope events:write, and the demo publishes an event"
    raise InvalidInput(Reason.INVALID_SETTING, "api_keys", detail)


class _Demo:
    """Everything that runs, from its start to its end."""

    def __init__(
        self, settings: Settings, samples: Samples, listeners: Listeners, api_key: str, stream: TextIO
    ) -> None:
        self._samples = samples
        self._listeners = listeners
        self._api_key = api_key
        self._stream = stream
        self._application = create_app(settings)
        self.server = HookcastServer(self._application, listeners, grace_of(settings), RawWebSocket)
        self._screen = Screen(stream, self._nobody_reads)

    async def run(self) -> int:
        """Serves until a signal; the exit status. Raises what the server could not start for, or Interrupted."""
        receiver = Receiver(self._keys_for, self._screen, lambda: time.time_ns() // 1_000_000)
        async with serving(receiver, self._samples.listener):
            server = asyncio.create_task(self.server.serve(sockets=list(self._listeners)), name="server")
            guide = asyncio.create_task(self._guide(server), name="guide")
            try:
                await asyncio.wait({server, guide}, return_when=asyncio.FIRST_COMPLETED)
                if not server.done():
                    self._stop()
                await server
            except InvalidInput as error:
                if self.server.should_exit:
                    # The same Ctrl-C may have hit the embedded Redis before it had left our process group.
                    raise Interrupted from error
                raise
            finally:
                guide.cancel()
                (ended,) = await asyncio.gather(guide, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended
        return 0 if self.server.failed is None else 1

    async def _guide(self, server: asyncio.Task[None]) -> None:
        """Shows the first event's way, then whatever comes, until the server stops."""
        while not self.server.started and not server.done():  # noqa: ASYNC110  uvicorn sets a flag
            await asyncio.sleep(_POLL_SECONDS)
        if server.done():
            return
        if self._samples.is_moved:
            self._screen.show(texts.moved(PORT, self._samples.port, self._samples.shown))
        self._screen.show(texts.started(self._url, self._samples.shown))
        subscriber = Subscriber(
            f"{self._url.replace('http', 'ws', 1)}/connection/websocket", texts.CHANNEL, self._screen
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(subscriber.run(lambda: not self.server.should_exit), name="subscriber")
            await self._first_event(subscriber)
            self._screen.show(texts.next_steps(self._url, self._api_key))

    async def _first_event(self, subscriber: Subscriber) -> None:
        try:
            async with asyncio.timeout(FIRST_EVENT_SECONDS):
                await subscriber.subscribed.wait()
                self._screen.show(texts.published(texts.FIRST_EVENT))
                answer = await asyncio.to_thread(_publish, self._url, self._api_key, texts.FIRST_EVENT)
                await self._screen.wait(webhooks=answer["matched"], messages=1)
        except TimeoutError:
            self._screen.show(texts.missing(FIRST_EVENT_SECONDS))
        except OSError as error:
            self._screen.show(texts.not_published(error))

    def _stop(self) -> None:
        self.server.should_exit = True

    def _nobody_reads(self) -> None:
        """Ends in order; what the interpreter would still write at its exit goes nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._stop()

    @property
    def _url(self) -> str:
        host, port = self._listeners.main.getsockname()[:2]
        return f"http://{_ANYWHERE.get(host, f'[{host}]' if ':' in host else host)}:{port}"

    def _keys_for(self, path: str) -> Iterator[Key]:
        """The signing keys of the subscriptions that send to this path of the receiver, as they are now."""
        for entry in self._application.configuration.entries.values():
            if entry.url == f"http://{HOST}:{self._samples.port}{path}":
                yield from (parse_secret(key.secret.get_secret_value()) for key in entry.signing_keys)


def _publish(url: str, api_key: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Publishes as any other program would; blocking."""
    request = urllib.request.Request(  # noqa: S310  our own http URL
        f"{url}/api/v1/events",
        data=json.dumps(event).encode(),
        headers={"X-API-Key": api_key, "Content-Type": "application/json"},
    )
    # The server is on this machine: no proxy of the environment can reach it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=FIRST_EVENT_SECONDS) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
