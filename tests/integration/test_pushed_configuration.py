"""A configuration from the operator, pushed or mounted, in a real server process."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from redis.asyncio import Redis
from standardwebhooks import Webhook

from hookcast_core.document import make_document
from tests.support.app import eventually
from tests.support.operator import INTERNAL_KEY, SIGNING_SECRET, Mount, document, entry, seal
from tests.support.receiver import Receiver, Reply, running_receiver
from tests.support.serving import Serving, serving

_log = logging.getLogger(__name__)


class Pod:
    """A server that takes its configuration from a mount and from pushes."""

    def __init__(self, server: Serving, mount: Mount) -> None:
        self.server = server
        self.mount = mount
        self.admin = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.admin_port}", timeout=30)

    async def listening(self) -> None:
        """Waits until the admin port answers, ready or not."""
        self.server.start()
        await eventually(self._answers, within=30)

    async def _answers(self) -> bool:
        try:
            return (await self.admin.get("/health/live")).is_success
        except httpx.TransportError:
            return False

    async def push(self, token: bytes) -> httpx.Response:
        """Pushes as the operator does."""
        return await self.admin.put("/internal/configuration", content=token)

    async def in_force(self) -> dict[str, Any]:
        """What is in force."""
        found: dict[str, Any] = (await self.admin.get("/internal/configuration")).json()
        return found

    async def publish(self, **event: Any) -> int:
        """Publishes `order.created`; how many subscriptions matched."""
        async with httpx.AsyncClient(base_url=self.server.url, headers={"X-API-Key": self.server.api_key}) as client:
            answer = await client.post("/api/v1/events", json={"type": "order.created", **event})
        assert answer.status_code == 202, answer.text
        matched: int = answer.json()["matched"]
        return matched


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    mount = Mount(tmp_path / "mount")
    settings = {"CONFIGURATION_DIR": str(mount.directory), "INTERNAL_KEY": INTERNAL_KEY}
    with serving(tmp_path, **settings) as server:
        pod = Pod(server, mount)
        try:
            yield pod
        finally:
            await pod.admin.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


async def test_a_push_is_in_force_when_it_is_answered(pod: Pod, receiver: Receiver) -> None:
    """Without a configuration the pod is not ready and says why; with it an event goes out, signed."""
    await pod.listening()
    assert "no configuration" in (await pod.admin.get("/health/ready")).text

    answer = await pod.push(seal(document(1, entry("u1", receiver.url))))

    assert answer.status_code == 200, answer.text
    assert (answer.json()["sequence"], answer.json()["rejected"]) == (1, [])
    await pod.server.ready()
    assert await pod.publish() == 1
    (request,) = await receiver.wait_for(1)
    Webhook(SIGNING_SECRET).verify(request.body, request.headers)


async def test_what_is_older_damaged_or_foreign_changes_nothing(pod: Pod) -> None:
    """Each refusal has its status and reason; the same again is answered as the first time."""
    await pod.listening()
    newest = seal(document(5, entry("u1", "https://shop.example")))
    first = await pod.push(newest)
    other_key = Fernet.generate_key().decode()

    answers = [
        await pod.push(seal(document(4))),
        await pod.push(seal(document(9, origin="before"), at=1)),
        await pod.push(seal(document(6), key=other_key)),
        await pod.push(newest[:-8]),
        await pod.push(b""),
        await pod.push(bytes(8_000_000)),
    ]

    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [
        (409, "StaleConfiguration"),
        (409, "StaleConfiguration"),
        (400, "InvalidConfiguration"),
        (400, "InvalidConfiguration"),
        (400, "InvalidConfiguration"),
        (413, "TooLarge"),
    ]
    assert (await pod.push(newest)).json() == first.json()
    assert (await pod.in_force())["sequence"] == 5
    reinstalled = await pod.push(seal(document(1, origin="after"), at=int(time.time()) + 1))
    assert reinstalled.json()["origin"] == "after"


async def test_one_line_that_does_not_hold_is_rejected_alone(pod: Pod, receiver: Receiver) -> None:
    """A newer operator's field, a private address: named with their object, whose last good version goes on."""
    await pod.listening()
    await pod.push(seal(document(1, entry("u1", receiver.url), entry("u2", receiver.url))))
    newer = document(2, entry("u1", receiver.url, 2), entry("u2", receiver.url), entry("u3", "https://10.0.0.1"))
    lines = [line.replace(b'"uid":"u1"', b'"unknown":1,"uid":"u1"') for line in newer.entries]

    answer = await pod.push(seal(make_document(2, "origin", lines)))

    rejected = {one["uid"]: (one["generation"], one["field"], one["reason"]) for one in answer.json()["rejected"]}
    assert rejected == {
        "u1": (2, "unknown", "InvalidSubscription"),
        "u3": (1, "spec.endpoint.url", "EgressDenied"),
    }
    assert (await pod.in_force())["subscriptions"] == 2
    assert await pod.publish() == 2


async def test_a_pod_starts_from_its_mount(pod: Pod, receiver: Receiver) -> None:
    """With the operator away, and again after SIGKILL; a later mount takes effect, an earlier push's does not."""
    pod.mount.put("a", document(3, entry("u1", receiver.url)))
    pod.mount.swap()
    await pod.listening()
    await pod.server.ready()
    assert await pod.publish() == 1
    await pod.push(seal(document(5)))
    pod.mount.put("b", document(4, entry("u1", receiver.url)))
    pod.mount.swap()
    pod.mount.put("a", document(6, entry("u1", receiver.url), entry("u2", receiver.url)))
    pod.mount.swap()

    async def has_two() -> bool:
        return bool((await pod.in_force())["subscriptions"] == 2)

    await eventually(has_two)
    assert ((await pod.in_force())["sequence"], (await pod.in_force())["source"]) == (6, "mount")
    pod.server.kill()
    await pod.listening()
    await pod.server.ready()
    assert await pod.publish() == 2


async def test_half_written_sets_are_passed_over(pod: Pod) -> None:
    """The manifest's set lacks a chunk: the other one is taken. That one damaged too: what is in force stays."""
    url = "https://shop.example"
    pod.mount.put("b", document(2, entry("u1", url)))
    pod.mount.put("a", document(3, entry("u1", url), entry("u2", url)), chunks=())
    pod.mount.swap()
    await pod.listening()

    assert (await pod.in_force())["sequence"] == 2

    pod.mount.damage("b")
    pod.mount.swap()
    await pod.push(seal(document(4, entry("u9", url))))
    assert (await pod.in_force())["sequence"] == 4


async def test_a_mount_that_no_key_opens_is_told_and_waited_out(tmp_path: Path) -> None:
    """The pod runs and says what is wrong, and a push by the right operator makes it ready."""
    mount = Mount(tmp_path / "mount")
    mount.put("a", document(3))
    mount.swap()
    key = Fernet.generate_key().decode()
    with serving(tmp_path, CONFIGURATION_DIR=str(mount.directory), INTERNAL_KEY=key) as server:
        pod = Pod(server, mount)
        await pod.listening()

        assert "HOOKCAST_INTERNAL_KEY" in server.log.read_text()
        assert (await pod.push(seal(document(4), key=key))).status_code == 200
        await server.ready()
        await pod.admin.aclose()


async def test_a_redis_found_empty_loses_no_subscription(pod: Pod, receiver: Receiver) -> None:
    """Flushed: what is published afterwards is matched and delivered."""
    await pod.listening()
    await pod.push(seal(document(1, entry("u1", receiver.url))))
    await pod.server.ready()
    async with Redis(unix_socket_path=str(pod.server.data_dir / "redis" / "redis.sock")) as redis:
        await redis.flushall()

    assert await pod.publish() == 1

    await receiver.wait_for(1)


async def test_how_endpoints_are_doing_is_told(pod: Pod, receiver: Receiver) -> None:
    """Delivering, then disabled by 410, then enabled by its user; after a restart the disabled one is still known."""
    await pod.listening()
    await pod.push(seal(document(1, entry("u1", receiver.url))))
    await pod.server.ready()
    cursor = ""

    async def state_is(state: str) -> bool:
        nonlocal cursor
        found = (await pod.admin.get("/internal/deliveries/health", params={"since": cursor})).json()
        cursor = found["cursor"]
        return [one["state"] for one in found["deliveries"]] == [state]

    await pod.publish()
    await eventually(lambda: state_is("Delivering"))
    receiver.behaviour = lambda _: Reply(410)
    await pod.publish()
    await eventually(lambda: state_is("Disabled"))
    receiver.behaviour = lambda _: Reply()
    await pod.publish()
    pod.server.kill()
    await pod.listening()
    await pod.push(seal(document(2, entry("u1", receiver.url))))
    await eventually(lambda: state_is("Disabled"))

    await pod.push(seal(document(3, entry("u1", receiver.url).model_copy(update={"enabled_at": 5}))))

    await receiver.wait_for(3)
    await eventually(lambda: state_is("Delivering"))


async def test_many_subscriptions_do_not_stop_the_server(pod: Pod) -> None:
    """While 10,000 are taken, and then one of them changes, other requests are answered."""
    await pod.listening()
    entries = [entry(f"u{n}", f"https://h{n}.example", events={"types": [f"t{n}"]}) for n in range(10_000)]
    first_token = seal(document(1, *entries))
    entries[7] = entry("u7", "https://new.example", 2)
    second_token = seal(document(2, *entries))
    slowest = 0.0
    done = asyncio.Event()

    async def ask() -> None:
        nonlocal slowest
        async with httpx.AsyncClient(base_url=pod.server.url) as client:
            while not done.is_set():
                began = time.perf_counter()
                await client.get("/health/live")
                slowest = max(slowest, time.perf_counter() - began)

    asking = asyncio.create_task(ask())
    began = time.perf_counter()
    first = await pod.push(first_token)
    took = time.perf_counter() - began
    began = time.perf_counter()
    second = await pod.push(second_token)
    edit = time.perf_counter() - began
    done.set()
    await asking

    assert (first.status_code, second.status_code) == (200, 200)
    # An edit costs a small part of the whole, and neither holds up other requests for as long as it takes.
    assert edit < took
    assert slowest < took
    _log.info("first %.2f s, edit %.2f s, slowest other request %.3f s", took, edit, slowest)
