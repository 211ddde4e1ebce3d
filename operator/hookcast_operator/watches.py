"""What kopf's watches are seen to do: whether each stream is alive, and when one began anew with a list.

Wraps the one function of kopf (1.45) through which every stream passes, which is not documented: the version is pinned,
and a test holds the wrapper against it. Errors that would end kopf, and with it the operator, end the stream instead;
kopf begins it anew.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import structlog
from kopf._cogs.clients import errors, watching

from hookcast_operator.waiting import seconds_after

SILENT_SECONDS = 75.0
"""A live stream has an event or a bookmark within a minute."""
BROKEN_SECONDS = 1.0
"""Before a stream that was refused begins anew."""
FORBIDDEN_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""The same, where it is not allowed: after the first, second, … time in a row."""

_log = structlog.get_logger("hookcast.operator.watches")


@dataclass(slots=True)
class _Stream:
    name: str
    is_one_of_many: bool
    seen: float
    lists: int = 0
    refusals: int = 0
    """In a row."""

    @property
    def may_be_gone(self) -> bool:
        """Whether it is that of one namespace and is not allowed, as after the namespace was deleted."""
        return self.is_one_of_many and self.refusals > 0


class Watches:
    """Lives as long as kopf runs. `on_list` is told when a stream that had begun before begins with a list again.

    Events that `is_known` says are no news go no further: each status that we write comes back as one, and kopf makes a
    task for each object.
    """

    def __init__(
        self,
        *,
        on_list: Callable[[], None],
        on_restart: Callable[[str], None] = lambda _resource: None,
        is_known: Callable[[str, Any], bool] = lambda _resource, _event: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_list = on_list
        self._on_restart = on_restart
        self._is_known = is_known
        self._clock = clock
        self._streams: dict[tuple[object, object], _Stream] = {}

    @property
    def silent(self) -> list[str]:
        """Streams that told nothing for longer than a live one may; to begin anew would not help a refused one."""
        now = self._clock()
        streams = self._streams.values()
        return [one.name for one in streams if now - one.seen > SILENT_SECONDS and not one.may_be_gone]

    @property
    def are_listed(self) -> bool:
        """Whether there are streams, and each has been listed, or may not be."""
        return bool(self._streams) and all(one.lists or one.may_be_gone for one in self._streams.values())

    def install(self) -> Callable[[], None]:
        """Puts itself around kopf's function; gives what takes it away."""
        original = watching.continuous_watch

        async def continuous_watch(*, resource: Any, namespace: Any, **rest: Any) -> AsyncIterator[Any]:
            stream = self._stream(resource, namespace)
            try:
                stream_of = cast("AsyncGenerator[Any]", original(resource=resource, namespace=namespace, **rest))
                async with aclosing(stream_of) as events:
                    async for event in events:
                        self._saw(stream, event)
                        if isinstance(event, watching.Bookmark) or not self._is_known(resource.plural, event):
                            yield event
            except (watching.WatchingError, errors.APIError, ValueError) as error:  # ValueError: a line that is cut off
                _log.warning("watch refused", stream=stream.name, problem=str(error))
                seconds = BROKEN_SECONDS
                if isinstance(error, errors.APIForbiddenError | errors.APINotFoundError):
                    seconds = seconds_after(stream.refusals, FORBIDDEN_SECONDS)
                    stream.refusals += 1
                await asyncio.sleep(seconds)

        watching.continuous_watch = continuous_watch

        def remove() -> None:
            watching.continuous_watch = original

        return remove

    def _stream(self, resource: Any, namespace: Any) -> _Stream:
        key = (resource, namespace)
        if key not in self._streams:
            where = f" of {namespace}" if namespace else ""
            self._streams[key] = _Stream(f"{resource.plural}{where}", bool(namespace), self._clock())
        return self._streams[key]

    def _saw(self, stream: _Stream, event: object) -> None:
        stream.seen, stream.refusals = self._clock(), 0
        if event is watching.Bookmark.LISTED:
            stream.lists += 1
            if stream.lists > 1:
                self._on_restart(stream.name.partition(" ")[0])
                self._on_list()
