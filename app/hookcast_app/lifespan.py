"""Runs an ASGI app's lifespan for uvicorn, so that a failed start keeps its error and a start can be given up.

uvicorn's own turns every failure into a traceback and exit status 3, and cannot be interrupted while the app starts.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message

CANCEL_SECONDS = 20.0
"""How long an app may take to close what it had opened when its start is given up."""


class Interrupted(Exception):  # noqa: N818  nothing failed
    """The process was told to stop before it had started."""


class Lifespan:
    """Takes the place of uvicorn's lifespan class: `startup`, `shutdown`, `should_exit`, `state`. Used once."""

    def __init__(self, app: ASGIApp, is_interrupted: Callable[[], bool]) -> None:
        self.state: dict[str, Any] = {}
        self.should_exit = False
        self._app = app
        self._is_interrupted = is_interrupted
        self._task: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._is_ending = False

    async def startup(self) -> None:
        """Starts the app. Raises what the app raised, or Interrupted."""
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._tell("lifespan.startup", give_up=self._is_interrupted)

    async def shutdown(self) -> None:
        """Nothing: uvicorn skips this after a second signal and does not bound it. The server calls `end` instead."""

    async def end(self) -> None:
        """Ends the app; returns when it has closed what it opened. Raises what the app raised."""
        self._is_ending = True
        await self._tell("lifespan.shutdown", give_up=lambda: False)
        if self._task is not None:
            await self._task

    def died(self) -> BaseException | None:
        """What the app's lifespan ended with though nobody had told it to end, or None."""
        if self._task is None or not self._task.done() or self._is_ending:
            return None
        return self._task.exception() or RuntimeError("the app's lifespan ended by itself")

    async def _tell(self, phase: str, *, give_up: Callable[[], bool]) -> None:
        assert self._task is not None  # noqa: S101  startup comes first
        self._answered.clear()
        self._to_app.put_nowait({"type": phase})
        waiting = asyncio.create_task(self._answered.wait())
        while not (self._task.done() or waiting.done()):
            if give_up():
                await _cancelled(self._task, waiting)
                raise Interrupted
            await asyncio.wait({self._task, waiting}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        await _cancelled(waiting)
        if self._failure is not None or (self._task.done() and not self._answered.is_set()):
            if give_up():
                # The signal that ended the start may have reached a child of ours in mid-start, too.
                await asyncio.gather(self._task, return_exceptions=True)
                raise Interrupted
            await self._task
            raise RuntimeError(self._failure or f"the app returned without answering {phase}")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._to_app.get, self._send)

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._failure = message.get("message", "")
        self._answered.set()


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
