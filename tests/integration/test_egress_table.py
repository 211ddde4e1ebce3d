"""No hostile URL leads anywhere: not when it is saved, tried, delivered to, or given to the client itself."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.fernet import Fernet
from pydantic import SecretStr

from hookcast_app.outgoing import AttemptFailed, HttpClient, SystemResolver
from hookcast_app.outgoing import client as client_module
from hookcast_core.configuration import Configuration
from hookcast_core.egress import EgressPolicy, parse_url
from hookcast_core.errors import InvalidInput, Reason
from tests.integration.outgoing.endpoint import Endpoint, answer
from tests.support.app import RunningApp, eventually, running_app, settings_for
from tests.support.hostile import REDIRECTS, Row, rows
from tests.support.ports import free_port
from tests.support.receiver import Receiver, Reply, Request

ONCE = {"retry": {"schedule": []}, "circuitBreaker": {"failures": 10_000}}
AT_ONCE = 12
"""Fewer than the test sends that one process takes at the same time."""


class Names:
    """Stands for the name server: the next answer of a name each time that it is asked; the last one stays."""

    def __init__(self, table: Iterable[Row]) -> None:
        self._left = {parse_url(row.url).host: list(row.answers) for row in table if row.answers}

    def add(self, host: str, *addresses: str) -> None:
        self._left[host] = [addresses]

    def __call__(self, host: str) -> Sequence[str]:
        answers = self._left.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def resolve(self, host: str) -> Sequence[str]:
        return self(host)


@dataclass
class World:
    """The app, who must not hear of it, and whereto this process has connected."""

    app: RunningApp
    table: list[Row]
    good: Receiver
    allow: tuple[str, ...]
    listeners: dict[str, Endpoint]
    """By the URL that leads there because it is allowed."""
    connected: set[Any] = field(default_factory=set)

    async def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        # By json.dumps: not everything that is sent could be encoded as it is.
        headers = {"content-type": "application/json"}
        return await self.app.client.request(method, f"/api/v1{path}", content=json.dumps(body), headers=headers)

    async def created(self, name: str, url: str, types: str = "order.*") -> str:
        made = await self.call("POST", "/webhook-subscriptions", {"name": name, "spec": spec(url, types)})
        assert made.status_code == 201, (url, made.text)
        uid: str = made.json()["uid"]
        return uid

    async def tried(self, uid: str) -> dict[str, Any]:
        """The attempt of a test send."""
        sent = await self.call("POST", f"/webhook-subscriptions/{uid}/test")
        assert sent.status_code == 200, sent.text
        attempt: dict[str, Any] = sent.json()["attempt"]
        return attempt

    async def assert_unheard(self) -> None:
        """Nobody was connected to but the app and the good endpoint; those who listen do hear what is allowed."""
        app = int(self.app.url.rpartition(":")[2])
        assert {to for to in self.connected if not isinstance(to, str)} <= {
            ("127.0.0.1", app),
            ("127.0.0.1", self.good.port),
        }
        assert [listener.connections for listener in self.listeners.values()] == [0] * len(self.listeners)
        for number, (url, listener) in enumerate(self.listeners.items()):
            attempt = await self.tried(await self.created(f"control-{number}", url, "control"))
            assert (attempt["status"], listener.connections) == (200, 1)


def spec(url: str, types: str = "order.*") -> dict[str, Any]:
    return {"endpoint": {"url": url}, "events": {"types": [types]}, "delivery": ONCE}


def manifest(name: str, url: str) -> str:
    kind = {"apiVersion": "hookcast.dev/v1alpha1", "kind": "WebhookSubscription", "metadata": {"name": name}}
    return yaml.safe_dump({**kind, "spec": spec(url)})


def redirecting(request: Request) -> Reply:
    """What the good endpoint answers: a redirect by its number; and it keeps no connection."""
    kind, _, number = request.path.strip("/").partition("/")
    if kind != "redirect":
        return Reply(200, {"connection": "close"})
    port, _, place = number.partition("/")
    status, to = REDIRECTS[int(place)]
    return Reply(status, {"location": to.replace("{port}", port), "connection": "close"})


@pytest.fixture
async def world(
    redis_url: str, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """An app that asks the table's name server, with a manifest for each row."""
    port = free_port()
    places = {
        f"http://{name}.example:{at}/": (address, at)
        for name, address in (("here", "127.0.0.1"), ("six", "::1"), ("second", "127.0.0.2"))
        for at in (port, receiver.port)
        if (address, at) != ("127.0.0.1", receiver.port)
    }
    allow = (f"127.0.0.1:{receiver.port}", *(url.removeprefix("http://").rstrip("/") for url in places))
    table = rows(port, receiver.port)
    names = Names(table)
    for url, (address, _) in places.items():
        names.add(parse_url(url).host, address)
    # Each connection asks anew, as after the seconds for which an answer is kept.
    monkeypatch.setattr(client_module, "SystemResolver", partial(SystemResolver, names, ttl_seconds=0))
    key = SecretStr(Fernet.generate_key().decode())
    settings = settings_for(redis_url, tmp_path, egress_allow=allow, encryption_keys=(key,))
    for number, row in enumerate(table):
        (tmp_path / "manifests" / f"row-{number}.yaml").write_text(manifest(f"file-{number}", row.url))
    receiver.behaviour = redirecting
    async with AsyncExitStack() as stack:
        listeners = {
            url: await stack.enter_async_context(Endpoint(answer(), host=address, port=at))
            for url, (address, at) in places.items()
        }
        app = await stack.enter_async_context(running_app(settings))
        found = World(app, table, receiver, allow, listeners)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", remembering(found.connected))
            yield found


def remembering(connected: set[Any]) -> Callable[[socket.socket, Any], None]:
    """`socket.connect` that also remembers whereto."""
    connect = socket.socket.connect

    def remembered(self: socket.socket, address: Any) -> None:
        connected.add(address[:2] if isinstance(address, tuple) else address)
        connect(self, address)

    return remembered


async def together(work: Iterable[Awaitable[None]]) -> None:
    """All of it, some at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(part: Awaitable[None]) -> None:
        async with places:
            await part

    await asyncio.gather(*map(one, work))


def refused(table: Iterable[Row]) -> list[Row]:
    return [row for row in table if row.refused is not None]


def accepted(table: Iterable[Row]) -> list[Row]:
    return [row for row in table if row.refused is None]


def turns(row: Row) -> bool:
    """Whether its name leads to the good endpoint at first."""
    return len(row.answers) > 1


# Saving


async def test_no_hostile_url_is_saved_over_rest(world: World) -> None:
    """Neither by creating a subscription nor by changing one, nor from a secret; the refusal says why, by its field."""
    uid = await world.created("victim", f"{world.good.url}/hook", "other")
    one = f"/webhook-subscriptions/{uid}"

    async def is_refused(row: Row, number: int) -> None:
        for method, path, body in (
            ("POST", "/webhook-subscriptions", {"name": f"row-{number}", "spec": spec(row.url)}),
            ("PUT", one, {"spec": spec(row.url)}),
            ("PATCH", one, {"spec": {"endpoint": {"url": row.url}}}),
        ):
            said = await world.call(method, path, body)
            told = said.json()
            found = (said.status_code, told["reason"], told["field"])
            assert found == (422, row.refused, "spec.endpoint.url"), (method, row, told)

    await together(is_refused(row, number) for number, row in enumerate(refused(world.table)))

    kept = (await world.call("GET", one)).json()
    assert (kept["generation"], kept["spec"]["endpoint"]["url"]) == (1, f"{world.good.url}/hook")
    assert [entry.name for entry in world.app.application.configuration.entries.values() if entry.source == "api"] == [
        "victim"
    ]
    await world.assert_unheard()


async def test_no_hostile_url_is_taken_from_a_secret(world: World) -> None:
    """Neither is it shown by the refusal."""
    table = refused(world.table)
    chunks = [table[start : start + 60] for start in range(0, len(table), 60)]

    async def is_refused(row: Row, name: str, key: str) -> None:
        wanted = spec("") | {"endpoint": {"urlSecretRef": {"name": name, "key": key}}}
        said = await world.call("POST", "/webhook-subscriptions", {"name": f"{name}-{key}", "spec": wanted})
        told = said.json()
        found = (said.status_code, told["reason"], told["field"])
        assert found == (422, row.refused, "spec.endpoint.urlSecretRef"), (row, told)
        assert row.url not in told["detail"]

    for place, chunk in enumerate(chunks):
        values = {f"k{number}": row.url for number, row in enumerate(chunk)}
        assert (await world.call("PUT", f"/secrets/urls-{place}", {"data": values})).status_code == 200
        await together(is_refused(row, f"urls-{place}", f"k{number}") for number, row in enumerate(chunk))

    await world.assert_unheard()


async def test_no_hostile_url_is_taken_from_a_manifest(world: World) -> None:
    """The problem names the file, the field and the reason; what is wrong by its name's answers alone is in force."""
    problems = world.app.application.configuration.problems
    entries = world.app.application.configuration.entries.values()
    told = dict(problem.split(", document 1: ", 1) for problem in problems)

    for number, row in enumerate(world.table):
        problem = told.pop(f"row-{number}.yaml", "")
        assert bool(problem) == (row.refused is not None), (row, problem)
        assert not problem or problem.startswith("spec.endpoint.url: "), (row, problem)
        assert not problem or problem.endswith(f"({row.refused})"), (row, problem)
    assert not told
    assert {entry.name for entry in entries} == {
        f"file-{number}" for number, row in enumerate(world.table) if row.refused is None
    }
    await world.assert_unheard()


# Sending


@pytest.mark.timeout(240)
async def test_no_hostile_url_is_tried_or_delivered_to(world: World) -> None:
    """Every attempt is refused as EgressDenied and never made again, also where a URL was saved that must not be."""
    by_rest = {await world.created(f"row-{number}", row.url): row for number, row in enumerate(accepted(world.table))}
    table = by_rest | from_files(world) | smuggled(world)

    # The first answer of a name that turns leads to the good endpoint, which keeps no connection.
    turning = [uid for uid, row in by_rest.items() if turns(row)]
    assert [(await world.tried(uid))["status"] for uid in turning] == [200] * len(turning)

    async def is_denied(uid: str) -> None:
        attempt = await world.tried(uid)
        assert (attempt["status"], attempt["reason"]) == (None, Reason.EGRESS_DENIED), (table[uid], attempt)

    await together(map(is_denied, table))
    event = await world.app.publish("order.created")
    assert event["matched"] == len(table)

    shown: list[dict[str, Any]] = []

    async def all_dead() -> bool:
        shown[:] = (await world.call("GET", f"/deliveries?event={event['id']}")).json()["items"]
        return Counter(one["status"] for one in shown) == {"dead": len(table)}

    await eventually(all_dead, 60)
    for one in shown:
        assert (one["reason"], one["attemptsMade"]) == (Reason.EGRESS_DENIED, 1), table[one["subscription"]]
    assert {one["subscription"] for one in shown} == table.keys()
    assert len(world.good.requests) == len(turning)
    await world.assert_unheard()


def from_files(world: World) -> dict[str, Row]:
    """The rows that are in force from manifests, by UID."""
    entries = world.app.application.configuration.entries.values()
    return {
        entry.uid: world.table[int(entry.name.removeprefix("file-"))] for entry in entries if entry.source == "files"
    }


def smuggled(world: World) -> dict[str, Row]:
    """Puts in force what no way of saving accepts, as if its check had a hole; rows by UID."""
    rows = {f"smuggled-{n}": row for n, row in enumerate(world.table) if row.refused is Reason.EGRESS_DENIED}
    current = world.app.application.configuration
    files = [entry for entry in current.entries.values() if entry.source == "files"]
    more = [
        files[0].model_copy(update={"uid": uid, "name": uid, "url": str(parse_url(row.url))})
        for uid, row in rows.items()
    ]
    current.swap(Configuration(sequence=2, entries=(*files, *more)))
    return rows


async def test_no_redirect_to_what_is_hostile_is_followed(world: World) -> None:
    """A redirect is a failure, whether it is tried or delivered."""
    port = next(listener.port for listener in world.listeners.values())
    uids = {
        await world.created(f"redirect-{number}", f"{world.good.url}/redirect/{port}/{number}"): status
        for number, (status, _) in enumerate(REDIRECTS)
    }

    async def fails(uid: str) -> None:
        attempt = await world.tried(uid)
        assert (attempt["status"], attempt["reason"]) == (uids[uid], Reason.BAD_STATUS)

    await together(map(fails, uids))
    event = await world.app.publish("order.created")
    shown: list[dict[str, Any]] = []

    async def all_dead() -> bool:
        items = (await world.call("GET", f"/deliveries?event={event['id']}")).json()["items"]
        shown[:] = [one for one in items if one["subscription"] in uids]
        return Counter(one["status"] for one in shown) == {"dead": len(uids)}

    await eventually(all_dead, 60)
    assert {one["reason"] for one in shown} == {Reason.ATTEMPTS_EXHAUSTED}
    redirected = [request for request in world.good.requests if request.path.startswith("/redirect/")]
    assert len(redirected) == 2 * len(REDIRECTS)
    await world.assert_unheard()


async def test_the_client_that_everything_goes_through_reaches_nothing_hostile(world: World) -> None:
    """What asks it directly is refused by the same reasons: it takes no address but in a URL that was taken apart."""
    names = Names(world.table)
    client = HttpClient(EgressPolicy(world.allow), resolve=names.resolve)

    async def post(row: Row) -> None:
        await client.post(parse_url(row.url), b"", b"{}", timeout_ms=5_000)

    async def is_denied(row: Row) -> None:
        if turns(row):
            await post(row)
        with pytest.raises((InvalidInput, AttemptFailed)) as refusal:
            await post(row)
        expected = Reason.INVALID_URL if row.refused is Reason.INVALID_URL else Reason.EGRESS_DENIED
        assert isinstance(refusal.value, InvalidInput | AttemptFailed)
        assert refusal.value.reason is expected, row

    await together(map(is_denied, world.table))
    await client.close()

    assert len(world.good.requests) == sum(map(turns, world.table))
    await world.assert_unheard()


def test_the_table_is_long() -> None:
    """And no row stands in it twice."""
    table = rows(1, 2)

    assert len({row.url for row in table}) == len(table) >= 300
    assert {row.refused for row in table} == {None, Reason.INVALID_URL, Reason.EGRESS_DENIED}
