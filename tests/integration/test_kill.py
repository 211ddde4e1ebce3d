"""Nothing that was acknowledged is lost, whatever is killed: real processes, SIGKILL, the durable embedded Redis."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.receiver import Receiver
from tests.support.serving import Serving, is_taken, serving

EVENTS = 2_000
PUBLISHERS = 32
MANIFEST = """
apiVersion: hookcast.dev/v1alpha1
kind: WebhookSubscription
metadata: {{name: all}}
spec:
  endpoint: {{url: "{url}/hook"}}
  events: {{types: ["*"]}}
  delivery: {{maxInFlight: 64, retry: {{schedule: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}}}}
"""


class Publisher:
    """Publishes numbered events, each with an id of its own, until each was acknowledged."""

    def __init__(self, server: Serving) -> None:
        self.acknowledged: set[int] = set()
        self.refused = 0
        self._server = server
        self._numbers = iter(range(EVENTS))
        self._progress = asyncio.Condition()

    async def run(self) -> None:
        """All publishers together."""
        headers = {"X-API-Key": self._server.api_key}
        async with httpx.AsyncClient(base_url=self._server.url, headers=headers, timeout=20) as client:
            await asyncio.gather(*(self._publish_some(client) for _ in range(PUBLISHERS)))

    async def reached(self, count: int) -> None:
        """Waits until so many are acknowledged."""
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= count)

    async def _publish_some(self, client: httpx.AsyncClient) -> None:
        for number in self._numbers:
            event = {"type": "kill.test", "id": f"event-{number}", "source": "/kill", "data": number}
            while not await is_taken(client, event):
                self.refused += 1
                await asyncio.sleep(0.05)
            async with self._progress:
                self.acknowledged.add(number)
                self._progress.notify_all()


@pytest.mark.timeout(180)
async def test_every_acknowledged_event_arrives(
    tmp_path: Path, receiver: Receiver, record_property: Callable[[str, object], None]
) -> None:
    """2,000 events at full speed, the server killed five times and Redis once at random moments: none is lost."""
    rng = random.Random()  # noqa: S311  any moment will do
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "all.yaml").write_text(MANIFEST.format(url=receiver.url))
    with serving(tmp_path, MANIFESTS=str(manifests)) as server:
        server.start()
        await server.ready()
        publisher = Publisher(server)
        publishing = asyncio.create_task(publisher.run())

        moments = sorted(rng.sample(range(50, EVENTS - 100), 6))
        redis_at = rng.choice(moments)
        for moment in moments:
            await publisher.reached(moment)
            if moment == redis_at:
                os.kill(server.redis_pid(), signal.SIGKILL)
            else:
                server.kill()
                server.start()
                await server.ready()
        await publishing

        def arrived() -> Counter[int]:
            return Counter(json.loads(body)["data"] for body in receiver.bodies())

        async with asyncio.timeout(60):
            while len(arrived()) < EVENTS:
                await asyncio.sleep(0.1)
        status = server.stop()

    lost = publisher.acknowledged - arrived().keys()
    record_property("duplicates", sum(arrived().values()) - EVENTS)
    record_property("publishes_repeated", publisher.refused)
    print(f"lost {len(lost)}, duplicates {sum(arrived().values()) - EVENTS}, repeated publishes {publisher.refused}")  # noqa: T201  the figures, with pytest -s
    assert publisher.acknowledged == set(range(EVENTS))
    assert not lost
    assert status == 0
