"""Secrets that objects refer to and that are not seen: whether they are there, but may not be used.

Only Secrets with the label are watched; of others the metadata is asked for, by name. Who puts a Secret in place looks
at the condition that missed it, so that it is asked for again soon, and then less and less often.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from hookcast_operator.api import Api, path_of
from hookcast_operator.bucket import Bucket
from hookcast_operator.errors import ApiRefused, ApiUnavailable, NotFound
from hookcast_operator.objects import Name
from hookcast_operator.waiting import seconds_after, wait_for

WAITS = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds after the first, second, … look."""
RATE, BURST = 10.0, 50
"""Of all looks but each one's first."""
AT_ONCE = 20

_log = structlog.get_logger("hookcast.operator.missed")


@dataclass(slots=True)
class _Missed:
    at: float
    looks: int = 0


class MissedSecrets:
    """Lives as long as the operator leads; `run` is its one task.

    `found` is told each that is there and may not be used, `absent` each that is not there or missed no more, `looked`
    each that was looked for, also where that failed.
    """

    def __init__(
        self,
        api: Api,
        *,
        found: Callable[[Name], None],
        absent: Callable[[Name], None],
        looked: Callable[[Name], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._found = found
        self._absent = absent
        self._looked = looked
        self._clock = clock
        self._missed: dict[Name, _Missed] = {}
        self._wake = asyncio.Event()
        self._again = Bucket(RATE, BURST)

    def want(self, names: Iterable[Name]) -> None:
        """Takes what the newest compilation missed, all of it."""
        missed = {name: self._missed.get(name) or _Missed(self._clock()) for name in names}
        gone = self._missed.keys() - missed.keys()
        self._missed = missed
        for name in gone:
            self._absent(name)
        self._wake.set()

    def knows(self, names: Iterable[Name]) -> bool:
        """Whether each of these was looked for since it is missed."""
        return all((missed := self._missed.get(name)) is not None and missed.looks for name in names)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self._wake.clear()
            now = self._clock()
            due = [(name, missed) for name, missed in self._missed.items() if missed.at <= now]
            new = [(name, missed) for name, missed in due if not missed.looks]
            if new:
                await asyncio.gather(*(self._look(*one) for one in new[:AT_ONCE]))
            elif due:
                await self._again.wait()
                await self._look(*due[0])
            else:
                at = min((missed.at for missed in self._missed.values()), default=None)
                await wait_for(self._wake, None if at is None else at - now)

    async def _look(self, name: Name, missed: _Missed) -> None:
        tell: Callable[[Name], None] | None = None
        try:
            await self._api.metadata(path_of("v1", "secrets", *name))
            tell = self._found
        except NotFound:
            tell = self._absent
        except (ApiUnavailable, ApiRefused) as error:
            _log.warning("cannot look for a secret", secret="/".join(name), problem=str(error))
        missed.at = self._clock() + seconds_after(missed.looks, WAITS)
        missed.looks += 1
        if self._missed.get(name) is missed:
            if tell is not None:
                tell(name)
            self._looked(name)
