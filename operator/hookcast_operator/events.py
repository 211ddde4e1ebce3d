"""Posts Events, slowly and in the background: they are news for people, and never hold up what is done."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from hookcast_operator.api import Api, path_of
from hookcast_operator.bucket import Bucket
from hookcast_operator.errors import AlreadyExists, ApiRefused, ApiUnavailable
from hookcast_operator.news import News

WAITING = 2_000
"""News that may wait; beyond that the oldest are dropped."""
RATE, BURST = 20.0, 100
RETRY_SECONDS = 2.0

_log = structlog.get_logger("hookcast.operator.events")


class EventPoster:
    """Lives as long as the operator leads; `run` is its one task."""

    def __init__(self, api: Api, *, instance: str, on_told: Callable[[str, str], None]) -> None:
        self._api = api
        self._instance = instance
        self._on_told = on_told
        self._waiting: deque[News] = deque(maxlen=WAITING)
        self._wake = asyncio.Event()
        self._bucket = Bucket(RATE, BURST)

    def tell(self, news: News) -> None:
        """Has it posted."""
        self._waiting.append(news)
        self._wake.set()

    async def run(self) -> None:
        """Posts until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._bucket.wait()
                await self._post(self._waiting.popleft())

    async def _post(self, news: News) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            await self._api.create(path_of("v1", "events", news.about.namespace), news.body(now, self._instance))
            self._on_told(news.type, news.reason)
        except AlreadyExists:
            pass  # told before, perhaps by another operator
        except ApiUnavailable:
            self._waiting.appendleft(news)
            await asyncio.sleep(RETRY_SECONDS)
        except ApiRefused as error:
            _log.info("event refused", object=str(news.about), problem=str(error))
