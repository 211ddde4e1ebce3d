"""A server at its most talkative, with secrets at every place that has one, and everything that it answers."""

import html
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml
from cryptography.fernet import Fernet

from hookcast_core.signing import generate_secret
from tests.support.durable import DurableRedis
from tests.support.receiver import Receiver, Reply, Request
from tests.support.serving import Serving, serving

ODD = "o\"dd/to+ken=with&<all>\\of %2F-é'"
"""What encodings change, in every secret that is free to have it."""
AGAIN = {"retry": {"schedule": ["0s"]}, "circuitBreaker": {"failures": 10_000}}


def odd() -> str:
    return f"{ODD}{secrets.token_urlsafe(16)}"


def echoing(request: Request) -> Reply:
    """Sends back what it got, in the way that its path asks for, well or badly."""
    got = request.headers
    said = {"path": request.path, "authorization": got.get("authorization"), "signature": got.get("webhook-signature")}
    text = "\n".join(map(str, said.values()))
    ways = {
        "json": json.dumps(said),
        "utf-8": json.dumps(said, ensure_ascii=False),
        "slashes": json.dumps(said).replace("/", "\\/"),
        "html": f"<pre>{html.escape(text)}</pre>",
        "percent": quote(text, safe=""),
        "text": text,
    }
    _, how, status, *_ = request.path.split("/")
    return Reply(int(status), {"x-got": str(got.get("host"))}, ways[how].encode())


@dataclass
class Run:
    """Everything that was done, with which secrets, and what was said of it."""

    server: Serving
    redis: DurableRedis
    receiver: Receiver
    client: httpx.AsyncClient
    secrets: dict[str, str]
    """Those that must not be read anywhere, by what they are."""
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    """What was answered, but for the two answers that show a new key once."""

    async def call(self, method: str, path: str, *, shows_key: bool = False, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **more)
        head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        if not shows_key:
            self.answers.append((f"{method} {path[:80]}: {answer.status_code}", head.encode() + answer.content))
        return answer

    async def done(self, method: str, path: str, *, shows_key: bool = False, **more: Any) -> Any:
        """What is answered to what is right."""
        answer = await self.call(method, f"/api/v1{path}", shows_key=shows_key, **more)
        assert answer.is_success, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, **more: Any) -> None:
        """Something that is wrong."""
        answer = await self.call(method, path, **more)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)

    async def subscribe(self, name: str, url: str | None, *keys: str, **spec: Any) -> str:
        """A subscription by REST; a key that is made for it is one of the secrets."""
        endpoint = ({"url": url} if url else {}) | spec.pop("endpoint", {})
        wanted = {"endpoint": endpoint, "events": {"types": ["order.*"]}, "delivery": AGAIN} | spec
        if keys:
            wanted["signing"] = {"keys": [signing_key(key) for key in keys]}
        body = {"name": name, "spec": wanted}
        made = await self.done("POST", "/webhook-subscriptions", json=body, shows_key=not keys)
        if "secret" in made:
            self.secrets[f"the generated key of {name}"] = made["secret"]
        uid: str = made["uid"]
        return uid


def signing_key(key: str) -> dict[str, Any]:
    return {"algorithm": "Ed25519" if key == "ed25519" else "HMAC", "secretRef": {"name": "rest", "key": key}}


def authorized_by(secret: str, key: str) -> dict[str, Any]:
    reference = {"secretKeyRef": {"name": secret, "key": key}}
    return {"headers": [{"name": "Authorization", "valueFrom": reference}]}


def document(kind: str, name: str, **content: Any) -> dict[str, Any]:
    version = "v1" if kind == "Secret" else "hookcast.dev/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}


def manifests(found: Mapping[str, str], url: str) -> Iterator[tuple[str, str]]:
    """Files with secrets at their place, and with secrets where none belongs."""
    secret = document(
        "Secret",
        "file",
        stringData={"hmac": found["a manifest's key"], "token": f"Bearer {found['a manifest token']}"},
    )
    kind = "WebhookSubscription"
    events = {"types": ["order.*"]}
    key = {"secretRef": {"name": "file", "key": "hmac"}}
    endpoint = {"url": f"{url}/json/500", **authorized_by("file", "token")}
    spec = {"endpoint": endpoint, "events": events, "delivery": AGAIN}
    good = [secret, document(kind, "filed", spec=spec | {"signing": {"keys": [key]}})]
    yield "good", yaml.safe_dump_all([*good, document(kind, "keyless", spec=spec)])
    misplaced = found["a misplaced secret"]
    wrong = [
        document("Secret", "short", stringData={"hmac": f"whsec_{misplaced}"}),
        document(kind, "short", spec=spec | {"signing": {"keys": [{"secretRef": {"name": "short", "key": "hmac"}}]}}),
        document(kind, "inline", spec=spec | {"signing": {"keys": [{"secretRef": misplaced}]}}),
        document(kind, "value", spec=spec | {"endpoint": {"url": f"https://u:{quote(misplaced)}@a.example/"}}),
        document(kind, "bare", spec=misplaced),
        document("Secret", "odd", data={"token": misplaced}),
        document(kind, "filter", spec=spec | {"events": events | {"filter": f"'{misplaced}"}}),
    ]
    yield "wrong", yaml.safe_dump_all(wrong)
    yield "broken", f"kind: Secret\nstringData: {{token: {json.dumps(misplaced)}, : [}}\n"
    yield "anchors", f"kind: Secret\nstringData:\n  token: *{misplaced[:0]}x\n  a: 'unfinished {misplaced}\n"


@asynccontextmanager
async def running_with_secrets(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Run]:
    """A server at its most talkative, on a Redis that writes everything down as it is."""
    found = {
        "the API key": secrets.token_urlsafe(24),
        "the reader's key": secrets.token_urlsafe(24),
        "the encryption key": Fernet.generate_key().decode(),
        "the JWT secret": secrets.token_urlsafe(48),
        "Redis' password": secrets.token_urlsafe(24),
        "a manifest's key": generate_secret(),
        "a manifest token": odd(),
        "a misplaced secret": secrets.token_urlsafe(20),
    }
    keys = [
        {"name": "tests", "key": found["the API key"], "scopes": ["admin"]},
        {"name": "reader", "key": found["the reader's key"], "scopes": ["read"]},
    ]
    redis = DurableRedis(tmp_path / "redis", "--rdbcompression", "no", password=found["Redis' password"])
    directory = tmp_path / "manifests"
    directory.mkdir()
    for name, text in manifests(found, receiver.url):
        (directory / f"{name}.yaml").write_text(text)
    receiver.behaviour = echoing
    settings = {
        "REDIS_URL": redis.url,
        "API_KEYS": json.dumps(keys),
        "ENCRYPTION_KEYS": found["the encryption key"],
        "JWT_SECRET": found["the JWT secret"],
        "MANIFESTS": str(directory),
        "LOG_LEVEL": "debug",
        "DRAIN_DELAY": "0",
        "CHANNEL_NAMESPACES": '{"": {"subscribe": "anyone"}, "kept": {"presence": true, "history_size": 10}}',
        "REALTIME_ANONYMOUS": "true",
    }
    await redis.start()
    try:
        with serving(tmp_path, **settings) as server:
            server.start()
            await server.ready(60)
            headers = {"X-API-Key": found["the API key"]}
            async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client:
                yield Run(server, redis, receiver, client, found)
    finally:
        redis.stop()
