"""Publishes numbered events at a rate, for each ordering key one after the other, and knows what was acknowledged."""

import asyncio
import json
from collections.abc import Callable

from hookcast_app.outgoing import AttemptFailed, HttpClient
from hookcast_core.egress import EgressPolicy, parse_url

PAUSE_SECONDS = 0.1
"""After an event that was not acknowledged, before it is published again."""
DATA = {"text": "of some two hundred bytes " * 8}


class Publisher:
    """`keys` ordering keys with events of type `chaos.0`, `chaos.1`, … below `types`, each until it is acknowledged.

    `rate` is in events a second for all keys together; what an outage held up is made up for.
    `acknowledged[key]` has for each number the loop's time at which the request began that acknowledged it.
    """

    def __init__(self, url: str, api_key: str, *, rate: float, keys: int, types: int) -> None:
        self._url = parse_url(f"{url}/api/v1/events")
        self._headers = f"x-api-key: {api_key}\r\ncontent-type: application/json\r\n".encode()
        self._rate = rate
        self.types = types
        self.acknowledged: list[list[float]] = [[] for _ in range(keys)]
        self.refused = 0
        self._over = asyncio.Event()

    @property
    def count(self) -> int:
        """How many events were acknowledged."""
        return sum(map(len, self.acknowledged))

    async def run(self) -> None:
        """Publishes until it is told to end."""
        client = HttpClient(EgressPolicy(["127.0.0.0/8"]))
        try:
            async with asyncio.TaskGroup() as tasks:
                for key in range(len(self.acknowledged)):
                    tasks.create_task(self._publish_all(client, key), name=f"publisher of key {key}")
        finally:
            await client.close()

    def end(self) -> None:
        """No more events after those that are under way."""
        self._over.set()

    async def _publish_all(self, client: HttpClient, key: int) -> None:
        clock, keys = asyncio.get_running_loop().time, len(self.acknowledged)
        period = keys / self._rate
        due = clock() + period * key / keys
        while await self._is_time(due, clock):
            began = clock()
            if await self._publish(client, key):
                self.acknowledged[key].append(began)
                due += period
            else:
                self.refused += 1
                await asyncio.sleep(PAUSE_SECONDS)

    async def _is_time(self, due: float, clock: Callable[[], float]) -> bool:
        """Waits until `due`; False if no more events are wanted."""
        if due > clock():
            try:
                async with asyncio.timeout_at(due):
                    await self._over.wait()
            except TimeoutError:
                return True
        return not self._over.is_set()

    async def _publish(self, client: HttpClient, key: int) -> bool:
        number = len(self.acknowledged[key])
        event = {
            "id": f"{key}-{number}",
            "source": "/chaos",
            "type": f"chaos.{key % self.types}",
            "orderingkey": f"k{key}",
            "data": DATA,
        }
        try:
            answer = await client.post(self._url, self._headers, json.dumps(event).encode(), timeout_ms=30_000)
        except AttemptFailed:
            return False
        assert answer.status in {202, 503}, answer.head
        return answer.status == 202
