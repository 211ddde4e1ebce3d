"""No secret is in a log, a metric, an answer or an error, whatever is done with it; in Redis there are sealed ones."""

import asyncio
import json
import secrets
import signal
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hookcast_core.signing import generate_private_key, generate_secret
from tests.integration.outgoing.endpoint import Endpoint
from tests.support.app import eventually
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.secrecy import Search, shows, spellings
from tests.support.secret_run import Run, authorized_by, odd, running_with_secrets

ENDS = (("json", 200), ("utf-8", 400), ("slashes", 500), ("html", 400), ("text", 302), ("json", 410))
"""How endpoints send back what they got, and with which status."""
PLANTED = ("an answer: GET", "Redis: the value", "Redis: the dump", "Redis' file appendonly", "Redis' file dump")
"""Where the correlation id that a client chose can be read."""
ADMINISTRATION = ("/metrics", "/health/ready", "/health/live", "/internal/configuration", "/internal/deliveries/health")

# What is done


async def keep_secrets(run: Run, identity: Any) -> None:
    """Secrets of every kind over REST; `identity` is a client's certificate with its key."""
    run.secrets |= {
        "a token": odd(),
        "a password": odd(),
        "an HMAC key": generate_secret(),
        "an Ed25519 key": generate_private_key(),
        "a client's key": identity.key,
        "the path of a URL": f"s3cr3t/{secrets.token_urlsafe(16)}",
        "the token of a URL": secrets.token_urlsafe(16),
    }
    found = run.secrets
    found["a Basic credential"] = b64encode(f"shop:{found['a password']}".encode()).decode()
    target = f"{found['the path of a URL']}?token={found['the token of a URL']}"
    values = {
        "bearer": f"Bearer {found['a token']}",
        "basic": f"Basic {found['a Basic credential']}",
        "hmac": found["an HMAC key"],
        "ed25519": found["an Ed25519 key"],
        "url": f"{run.receiver.url}/percent/500/{target}",
        "closed": f"http://127.0.0.1:{free_port()}/{target}",
    }
    await run.done("PUT", "/secrets/rest", json={"data": values})
    certificate = {"tls.crt": identity.chain, "tls.key": identity.key}
    await run.done("PUT", "/secrets/client", json={"data": certificate})


async def subscribe_to_all(run: Run, authority: Authority, secured: Endpoint) -> list[str]:
    """A subscription for each way in which something goes well or badly; their UIDs."""
    url = run.receiver.url
    bearer, basic = (authorized_by("rest", key) for key in ("bearer", "basic"))
    await run.done("PUT", "/secrets/authority", json={"data": {"ca": authority.pem}})
    tls = {"caSecretRef": {"name": "authority", "key": "ca"}, "clientCertificateSecretRef": {"name": "client"}}
    uids = [
        await run.subscribe(f"{how.replace('-', '')}-{status}", f"{url}/{how}/{status}", endpoint=bearer)
        for how, status in ENDS
    ]
    uids += [
        await run.subscribe("basic", f"{url}/percent/404", "hmac", endpoint=basic),
        await run.subscribe("both", f"{url}/text/200", "ed25519", "hmac", endpoint=basic),
        await run.subscribe("secret-url", None, "hmac", endpoint={"urlSecretRef": {"name": "rest", "key": "url"}}),
        await run.subscribe("closed", None, "hmac", endpoint={"urlSecretRef": {"name": "rest", "key": "closed"}}),
        await run.subscribe("mutual", str(secured.url()), "hmac", endpoint=bearer | {"tls": tls}),
        await run.subscribe("no-tls", url.replace("http", "https"), "hmac", endpoint=bearer | {"tls": tls}),
        await run.subscribe("no-trust", str(secured.url()), endpoint=bearer),
        await run.subscribe("denied", f"https://localhost:{free_port()}/", endpoint=bearer),
    ]
    return uids


async def send_to_all(run: Run) -> list[str]:
    """Tries each subscription, publishes, and waits until every delivery has ended; the deliveries' ids."""
    listed = (await run.done("GET", "/webhook-subscriptions"))["items"]
    for one in listed:
        await run.done("POST", f"/webhook-subscriptions/{one['uid']}/test")
        await run.done("POST", f"/webhook-subscriptions/{one['uid']}/enable")
    event = await run.done("POST", "/events", json={"type": "order.created", "data": {"n": 1}})
    assert event["matched"] == len(listed) >= 16
    shown: list[dict[str, Any]] = []

    async def ended() -> bool:
        shown[:] = (await run.done("GET", f"/deliveries?event={event['id']}"))["items"]
        return {one["status"] for one in shown} == {"delivered", "dead"}

    await eventually(ended, 60)
    return [one["id"] for one in shown]


async def rotate(run: Run, uid: str) -> None:
    for number in range(2):
        rotated = await run.done("POST", f"/webhook-subscriptions/{uid}/rotate-secret", shows_key=True)
        run.secrets[f"rotated key {number}"] = rotated["secret"]


async def ask_wrongly(run: Run, uid: str) -> None:
    """Requests with secrets where none belongs."""
    for wrong in run.secrets.values():
        secret = wrong.partition("\n")[2][:64] if wrong.startswith("-----") else wrong
        for path, method, body in misplaced(uid, secret):
            await run.refused(method, f"/api/v1{path}", json=body)
        for path in ("/webhook-subscriptions", "/events", "/secrets/x"):
            method = "PUT" if path.startswith("/secrets") else "POST"
            for content in (f'{{"a": "{secret}', f"{secret}", f'{{"type": {secret}}}'):
                await run.refused(method, f"/api/v1{path}", content=content.encode())
        await run.refused("GET", "/api/v1/events", headers={"X-API-Key": f"{quote(secret)}x"})
        bearer = {"X-API-Key": "", "Authorization": f"Bearer {quote(secret)}x"}
        await run.refused("GET", "/api/v1/events", headers=bearer)
        for query in ("cursor", "limit", "status", "token"):
            await run.call("GET", f"/api/v1/deliveries?{query}={quote(secret, safe='')}")
        await run.refused("GET", f"/api/v1/deliveries/{quote(secret, safe='')}")
        await run.refused("GET", f"/api/v1/webhook-subscriptions/{quote(secret, safe='')}")
        await run.refused("GET", f"/sse/a?token={quote(secret, safe='')}x", headers={"X-API-Key": ""})


def misplaced_in_endpoint(secret: str) -> Iterable[dict[str, Any]]:
    """Fields of an endpoint beside its URL."""
    yield {"headers": [{"name": "X-Key", "value": f"{secret}\n"}]}
    yield {"headers": [{"name": f"{secret}:", "value": "a"}]}
    yield {"headers": [{"name": "A", "valueFrom": secret}]}
    yield {"tls": {"caSecretRef": secret}}
    yield {"tls": {"caSecretRef": {"name": "client", "key": "tls.key"}}}
    yield {"tls": {"clientCertificateSecretRef": {"name": "rest"}}}


def misplaced(uid: str, secret: str) -> Iterable[tuple[str, str, Any]]:
    """Path, method and body of requests that are refused."""
    events = {"types": ["order.*"]}
    good = {"endpoint": {"url": "https://shop.example/"}, "events": events}
    specs: list[Any] = [
        secret,
        [secret],
        good | {"endpoint": secret},
        good | {"endpoint": {"url": secret}},
        good | {"endpoint": {"url": f"https://user:{quote(secret, safe='')}@shop.example/"}},
        good | {"endpoint": {"url": f"ftp://shop.example/{quote(secret, safe='')}"}},
        good | {"endpoint": {"urlSecretRef": secret}},
        good | {"endpoint": {"urlSecretRef": {"name": secret, "key": "a"}}},
        good | {"endpoint": {"urlSecretRef": {"name": "rest", "key": "bearer"}}},
        *(good | {"endpoint": {"url": "https://shop.example/", **more}} for more in misplaced_in_endpoint(secret)),
        good | {"signing": {"keys": [secret]}},
        good | {"signing": {"keys": [{"secretRef": secret}]}},
        good | {"signing": {"keys": [{"secretRef": {"name": "rest", "key": secret}}]}},
        good | {"signing": {"keys": [{"secretRef": {"name": "rest", "key": "basic"}}]}},
        good | {"signing": {"keys": [{"secretRef": {"name": "rest", "key": "hmac"}, "algorithm": secret}]}},
        good | {"signing": {"scheme": secret}},
        good | {"events": {"types": [f"{secret}!"]}},
        good | {"events": events | {"filter": f"data.a == {secret} +"}},
        good | {"events": events | {"filter": f'data.a == "{secret}'}},
        good | {"delivery": {"timeout": secret}},
        good | {"delivery": {"retry": {"schedule": [secret]}}},
        good | {"delivery": {"maxInFlight": secret}},
        good | {"format": secret},
        good | {"suspend": secret},
    ]
    for spec in specs:
        yield "/webhook-subscriptions", "POST", {"name": "wrong", "spec": spec}
        yield f"/webhook-subscriptions/{uid}", "PUT", {"spec": spec}
    yield "/webhook-subscriptions", "POST", {"name": f"{secret}!", "spec": good}
    yield "/webhook-subscriptions", "POST", {"name": "a", "namespace": f"{secret}!", "spec": good}
    yield "/secrets/wrong", "PUT", secret
    yield "/secrets/wrong", "PUT", {"data": secret}
    yield "/secrets/wrong", "PUT", {"data": {"a": [secret]}}
    yield "/secrets/wrong", "PUT", {"data": {"a": {"b": secret}}}
    yield "/secrets/wrong", "PUT", {"data": {"a": secret, "b": 1}}
    yield "/secrets/rest", "PUT", {"data": {"hmac": secret[:5], "bearer": f"{secret}\n\n", "basic": secret}}
    yield "/events", "POST", {"type": f"{secret} ", "data": 1}
    yield "/events", "POST", {"type": "order.created", "time": secret}
    yield "/events", "POST", {"type": "order.created", "traceparent": secret, "source": f"{secret} \n"}
    yield f"/webhook-subscriptions/{uid}/test", "POST", {"type": f"{secret} "}
    yield f"/webhook-subscriptions/{uid}/replay", "POST", {"since": secret}
    yield "/dead-letters/replay", "POST", {"subscription": secret}


async def listen(run: Run) -> None:
    """Connections with tokens that hold and tokens that do not."""
    for number, key in enumerate((run.secrets["the JWT secret"], secrets.token_urlsafe(48))):
        token = run.secrets[f"connection token {number}"] = jwt.encode({"sub": f"user-{number}"}, key, "HS256")
        url = run.server.url.replace("http", "ws")
        async with connect(f"{url}/connection/websocket?token={token}") as client:
            await client.send(json.dumps({"id": 1, "connect": {"token": token}}))
            try:
                answered = str(await client.recv())
            except ConnectionClosed as end:
                answered = str(end)
            assert ("invalid token" in answered) == bool(number)
            run.answers.append(("WebSocket", answered.encode()))
        for way in (f"?token={token}", "?auth=message"):
            async with connect(f"{url}/ws/c{number}{way}") as plain:
                if way == "?auth=message":
                    await plain.send(json.dumps({"type": "auth", "token": token}))
                try:
                    answered = str(await plain.recv())
                except ConnectionClosed as end:
                    answered = str(end)
                assert ("invalid token" in answered) == bool(number)
                run.answers.append(("plain WebSocket", answered.encode()))
        for headers, query in (({"Authorization": f"Bearer {token}"}, ""), ({}, f"?token={token}")):
            async with run.client.stream("GET", f"/sse/a{query}", headers=headers | {"X-API-Key": ""}) as stream:
                begun = await anext(stream.aiter_bytes())
                assert stream.is_success == (not number)
                run.answers.append(("SSE", str(stream.headers).encode() + begun))


async def lose_redis(run: Run) -> None:
    """What is said while Redis is away, and when it is there again."""
    run.redis.signal(signal.SIGKILL)
    answer = await run.call("POST", "/api/v1/events", json={"type": "user.created"})
    assert answer.status_code == 503
    await run.call("GET", "/api/v1/deliveries")
    await run.redis.start()
    await run.server.ready(60)


async def read_everything(run: Run, deliveries: Iterable[str]) -> None:
    """Every GET that the API documents, with ids that exist; and what the administration's port shows."""
    api = (await run.call("GET", "/openapi.json")).json()
    listed = (await run.done("GET", "/webhook-subscriptions"))["items"]
    events = (await run.done("GET", "/events"))["items"]
    replay = await run.done("POST", "/dead-letters/replay")
    ids = {
        "uid": [one["uid"] for one in listed],
        "delivery_id": list(deliveries),
        "event_id": [one["event"]["id"] for one in events],
        "task_id": [replay["id"]],
        "name": ["rest", "client", "authority"],
        "channel": ["kept:one"],
    }
    walked = 0
    for path, methods in api["paths"].items():
        if "get" in methods and not path.startswith("/sse"):
            name = path.partition("{")[2].partition("}")[0]
            for one in ids[name] if name else ["-"]:
                answer = await run.call("GET", path.replace(f"{{{name}}}", one))
                assert answer.is_success, (path, answer.text)
                walked += 1
    assert walked > 60
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{run.server.admin_port}") as admin:
        for path in ADMINISTRATION:
            answer = await admin.get(path)
            assert answer.is_success, path
            run.answers.append((path, answer.content))


# Where is looked


async def in_redis(run: Run) -> AsyncIterator[tuple[str, bytes]]:
    """Every key with its value, as a client reads it and as it is dumped."""
    async with Redis.from_url(run.redis.url) as redis:
        async for key in redis.scan_iter():
            value = await read(redis, key)
            yield f"the value of {key!r}", b"\n".join(pieces(value))
            yield f"the dump of {key!r}", key + (await redis.dump(key) or b"")
        await redis.save()


async def read(redis: Redis, key: bytes) -> object:
    match await redis.type(key):
        case b"string":
            return await redis.get(key)
        case b"hash":
            return await redis.hgetall(key)
        case b"set":
            return await redis.smembers(key)
        case b"zset":
            return await redis.zrange(key, 0, -1)
        case b"stream":
            return await redis.xrange(key)
        case b"list":
            return await redis.lrange(key, 0, -1)
        case other:
            raise AssertionError(f"{key!r} is of a type that is not looked into: {other!r}")


def pieces(value: Any) -> Iterator[bytes]:
    """Whatever bytes there are in a value, however deep."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        yield from pieces([*value.keys(), *value.values()])
    elif isinstance(value, Iterable):
        for one in value:
            yield from pieces(one)


def on_disk(run: Run) -> Iterator[tuple[str, bytes]]:
    """The append-only files, the RDB file, and whatever else Redis wrote; and what the server said."""
    for path in run.redis.directory.rglob("*"):
        if path.is_file():
            yield f"Redis' file {path.name}", path.read_bytes()
    yield "the log", run.server.log.read_bytes()
    yield "what was printed", run.server.said.read_bytes()


@pytest.mark.timeout(240)
async def test_no_secret_can_be_read_anywhere(tmp_path: Path, receiver: Receiver) -> None:
    """Neither in an answer, a metric or a line at level debug, nor in Redis or its files but sealed; in no spelling."""
    authority = Authority()
    planted = f"planted-{secrets.token_urlsafe(16)}"

    async def echo(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = secured.requests[-1]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    async with AsyncExitStack() as stack:
        context = authority.sign("127.0.0.1").server_context(clients=authority)
        secured = await stack.enter_async_context(Endpoint(echo, tls=context))
        run = await stack.enter_async_context(running_with_secrets(tmp_path, receiver))
        run.client.headers["X-Correlation-ID"] = planted
        await keep_secrets(run, authority.sign("client.example"))
        uids = await subscribe_to_all(run, authority, secured)
        deliveries = await send_to_all(run)
        await rotate(run, uids[0])
        await listen(run)
        await ask_wrongly(run, uids[0])
        await lose_redis(run)
        deliveries += await send_to_all(run)
        await read_everything(run, deliveries)
        found = [("an answer: " + what, content) for what, content in run.answers]
        found += [(f"Redis: {what}", content) async for what, content in in_redis(run)]
        assert run.server.stop() == 0
        found += on_disk(run)

    # What was sent has the secrets, and what is looked through is what there is.
    sent = b"".join(str(request.headers).encode() for request in receiver.requests)
    assert shows(sent, run.secrets["a token"])
    assert shows(b"".join(secured.requests), run.secrets["a token"])
    for place in PLANTED:
        assert any(what.startswith(place) and shows(content, planted) for what, content in found), place
    assert shows(dict(found)["the log"], planted)
    assert b"hookcast_deliveries_dropped_total" in dict(found)["an answer: /metrics"]

    places: dict[str, set[bytes]] = {}
    for what, content in found:
        places.setdefault(what, set()).add(content)
    search = Search(run.secrets)
    leaks = [f"{leak} in {what}" for what, contents in places.items() for leak in search.found(b"\n".join(contents))]
    assert not leaks, "\n".join(sorted(leaks)[:60])


@pytest.mark.parametrize("secret", ['a-secret/of+some=length&é"\\', generate_secret(lambda count: b"\xfa" * count)])
def test_a_planted_secret_is_found_in_every_spelling(secret: str) -> None:
    """The search sees what it is to see, whatever stands around it."""
    ways = dict(spellings(secret))

    assert len(ways) > 20
    for spelling in ways.values():
        assert shows(b"before \xff" + spelling + b" after", secret)
    for before in (b"", b"x", b"xy"):
        assert shows(b64encode(before + secret.encode() + b"after"), secret)
    assert not shows(b"something else", secret)
