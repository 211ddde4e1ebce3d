"""Publishes numbered data on channels at a rate, by the server API and by events, each until it is acknowledged."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hookcast_app.outgoing import Answer, AttemptFailed, HttpClient
from hookcast_core.egress import EgressPolicy, parse_url
from tests.support.realtime.deployment import API_KEY
from tests.support.realtime.ledger import Ledger, Place

PAUSE_SECONDS = 0.1
"""After what was not acknowledged, before it is published again."""
BATCH = 8
"""Publications in one call, at most, each on another channel."""
BURST = 100
"""Publications on one channel at once."""
_HEADERS = f"x-api-key: {API_KEY}\r\ncontent-type: application/json\r\n".encode()
_PADDING = "of some two hundred bytes " * 8


class Publisher:
    """Some that publish by the server API and as many by events; `rate` is in publications a second for all together.

    Whoever publishes numbers what it publishes, and goes on when it is acknowledged. `any_port` is where to publish.
    """

    def __init__(
        self, any_port: Callable[[], int], channels: Sequence[str], ledger: Ledger, *, rate: float, workers: int = 4
    ) -> None:
        self.acknowledged: Counter[str] = Counter()
        """By `api`, `event` and `burst`."""
        self.repeated = 0
        """Calls that were made again."""
        self.events: list[tuple[str, dict[str, Any]]] = []
        """Channel and data of those that are acknowledged, of which it is not known where they are."""
        self._any_port = any_port
        self._channels = channels
        self._ledger = ledger
        self._rate = rate
        self._workers = workers
        self._client = HttpClient(EgressPolicy(["127.0.0.0/8"]))
        self._over = asyncio.Event()
        self._bursts = 0

    async def run(self) -> None:
        """Publishes until it is told to end."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._workers):
                    tasks.create_task(self._call_all(f"api {number}"))
                    tasks.create_task(self._send_all(f"event {number}"))
        finally:
            await self._client.close()

    def end(self) -> None:
        """Nothing more after what is under way."""
        self._over.set()

    async def burst(self, channel: str) -> None:
        """Publishes many at once on one channel."""
        self._bursts += 1
        who = f"burst {self._bursts}"
        await self._publish([(channel, _data(who, number)) for number in range(BURST)], "burst")

    async def _call_all(self, who: str) -> None:
        number = 0
        while not self._over.is_set():
            count = random.randint(1, BATCH)  # noqa: S311
            chosen = random.sample(self._channels, count)
            await self._publish([(channel, _data(who, number + place)) for place, channel in enumerate(chosen)], "api")
            number += count
            await self._pause(2 * self._workers * count / self._rate)

    async def _send_all(self, who: str) -> None:
        number = 0
        while not self._over.is_set():
            channel, data = random.choice(self._channels), _data(who, number)  # noqa: S311
            event = {"id": f"{who} {number}".replace(" ", "-"), "source": "/chaos", "type": "a.b", "data": data}
            while (answer := await self._post("/api/v1/events", {**event, "channel": channel})) is None:
                await self._again()
            assert answer.status == 202, answer.head
            self.events.append((channel, data))
            self.acknowledged["event"] += 1
            number += 1
            await self._pause(2 * self._workers / self._rate)

    async def _publish(self, publications: list[tuple[str, Any]], kind: str) -> None:
        """Publishes a batch, and again what was not acknowledged."""
        while publications:
            commands = [
                {"publish": {"channel": channel, "data": data, "idempotency_key": f"{data['by']} {data['number']}"}}
                for channel, data in publications
            ]
            answer = await self._post("/api/batch", {"commands": commands})
            replies = [{}] * len(publications) if answer is None else json.loads(answer.head)["replies"]
            left = []
            for (channel, data), reply in zip(publications, replies, strict=True):
                if (result := reply.get("publish")) is None:
                    left.append((channel, data))
                else:
                    self._ledger.note(channel, Place(result["epoch"], result["offset"]), data)
                    self.acknowledged[kind] += 1
            if publications := left:
                await self._again()

    async def _post(self, path: str, body: Any) -> Answer | None:
        """None if there is no answer, or that Redis is away."""
        url = parse_url(f"http://127.0.0.1:{self._any_port()}{path}")
        try:
            answer = await self._client.post(url, _HEADERS, json.dumps(body).encode(), timeout_ms=10_000)
        except AttemptFailed:
            return None
        assert answer.status in {200, 202, 503}, answer.head
        return None if answer.status == 503 else answer

    async def _again(self) -> None:
        self.repeated += 1
        await asyncio.sleep(PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.5)):  # noqa: S311
                await self._over.wait()
        except TimeoutError:
            pass


def _data(who: str, number: int) -> dict[str, Any]:
    return {"by": who, "number": number, "text": _PADDING}
