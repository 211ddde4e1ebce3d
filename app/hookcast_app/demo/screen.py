"""The terminal, or whatever stands in its place, and what has been shown on it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Literal, TextIO

Kind = Literal["webhook", "websocket"]


class Screen:
    """Writes whole lines at once. `on_gone` is called when nobody reads any more (`make run | head`)."""

    def __init__(self, stream: TextIO, on_gone: Callable[[], None]) -> None:
        self._stream = stream
        self._on_gone = on_gone
        self._is_gone = False
        self._arrived: Counter[Kind] = Counter()
        self._changed = asyncio.Event()

    def show(self, text: str) -> None:
        """Writes text and a line's end."""
        if self._is_gone:
            return
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except BrokenPipeError:
            self._is_gone = True
            self._on_gone()

    def arrived(self, kind: Kind, text: str) -> None:
        """Shows something that came back, and counts it."""
        self.show(text)
        self._arrived[kind] += 1
        self._changed.set()

    async def wait(self, webhooks: int, messages: int) -> None:
        """Returns once at least so many have arrived in all."""
        while self._arrived["webhook"] < webhooks or self._arrived["websocket"] < messages:
            self._changed.clear()
            await self._changed.wait()
