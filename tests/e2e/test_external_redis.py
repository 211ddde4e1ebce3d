"""Many pods that share a Redis elsewhere: a release of its own beside the other one, three pods and a dispatcher."""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from hashlib import sha256
from typing import Self

import httpx
import pytest

from tests.e2e.certificates import issued_for
from tests.e2e.cluster import Cluster, Object, Receiver, Release, body_of, until
from tests.e2e.realtime_clients import eventually, listening

pytestmark = pytest.mark.timeout(600)

REDIS = "hookcast-redis"
HOST = f"redis.{REDIS}.svc"
PASSWORD = secrets.token_urlsafe(16)
SMALL = {"resources": {"requests": {"cpu": "20m", "memory": "128Mi"}}}
VALUES: Object = {
    "crds": {"enabled": False},
    "replicas": 3,
    "dispatcher": SMALL,
    "operator": SMALL,
    "redis": {"mode": "external", "existingSecret": {"name": "redis"}},
    "networkPolicy": {"redis": {"ports": [6379, 6380]}},
    "settings": {"EGRESS_ALLOW": ["*.svc.cluster.local:9000"], "DRAIN": 5},
    **SMALL,
}


def secret(name: str, namespace: str, data: dict[str, str]) -> Object:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


def redis_objects(certificate: dict[str, str]) -> Iterator[Object]:
    """A Redis as a user has it: append-only, with a password, plain on 6379 and by TLS on 6380."""
    yield secret("tls", REDIS, certificate)
    labels, meta = {"app": "redis"}, {"name": "redis", "namespace": REDIS}
    ports = [{"name": "plain", "port": 6379}, {"name": "tls", "port": 6380}]
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": ports}}
    options = {
        "appendonly": "yes",
        "appendfsync": "always",
        "dir": "/data",
        "maxmemory-policy": "noeviction",
        "requirepass": PASSWORD,
        "tls-port": "6380",
        "tls-auth-clients": "no",
        "tls-ca-cert-file": "/tls/ca.crt",
        "tls-cert-file": "/tls/tls.crt",
        "tls-key-file": "/tls/tls.key",
    }
    container = {
        "name": "redis",
        "image": "redis:7",
        "imagePullPolicy": "Never",
        "command": ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tls", "mountPath": "/tls"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tls", "secret": {"secretName": "tls"}}],
    }
    marked = {"labels": labels, "annotations": {"certificate": sha256(certificate["tls.crt"].encode()).hexdigest()}}
    template = {"metadata": marked, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"}, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


@pytest.fixture(scope="module")
def wide(release: Release, cluster: Cluster) -> Iterator[Release]:
    """The second release; the first has the definitions."""
    assert release.name
    certificate = issued_for(HOST)
    for namespace in (REDIS, "hookcast-wide"):
        cluster.namespace(namespace)
    cluster.apply(*redis_objects(certificate))
    cluster.kubectl("rollout", "status", "deployment/redis", "-n", REDIS, "--timeout=120s")
    plain = {"url": f"redis://:{PASSWORD}@{HOST}:6379/0"}
    sealed = {
        "url": f"rediss://:{PASSWORD}@{HOST}:6380/0?ssl_ca_certs=/etc/hookcast/redis/ca.crt",
        "ca.crt": certificate["ca.crt"],
    }
    cluster.apply(secret("redis", "hookcast-wide", plain), secret("redis-tls", "hookcast-wide", sealed))
    found = Release(cluster, "wide", "hookcast-wide", dispatcher="wide")
    try:
        found.install(VALUES)
        yield found
    finally:
        cluster.kubectl("delete", "whsub", "--all", "-n", found.namespace)
        found.uninstall()
        cluster.kubectl("delete", "namespace", found.namespace, REDIS, "--wait=true", "--timeout=180s", timeout=200)


def subscribe(wide: Release, receiver: Receiver, name: str) -> None:
    wide.cluster.apply(wide.subscription(name, {"endpoint": {"url": receiver.url(f"/{name}")}}))
    wide.wait_ready(name)


async def test_what_is_published_at_one_pod_reaches_clients_of_the_others(wide: Release) -> None:
    """A client on each of three pods; an event published at each pod; every client gets all three."""
    pods = wide.pods()
    assert len(pods) == 3
    channel = f"news-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        urls = [stack.enter_context(wide.cluster.forwarded(f"pod/{pod}", wide.namespace, 8000)) for pod in pods]
        clients = [await stack.enter_async_context(listening(url, wide.token("ann"), channel)) for url in urls]
        published = set()
        for url in urls:
            event = {"type": "news.published", "channel": channel, "data": {"at": url}}
            async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": wide.api_key}) as publisher:
                answer = await publisher.post("/api/v1/events", json=event)
            assert answer.status_code == 202, answer.text
            published.add(answer.json()["id"])
        for client in clients:
            await eventually(lambda client=client: len(client.received) >= 3, "three publications")  # type: ignore[misc]
            assert ids(client.received) == published


def test_a_subscription_is_ready_when_every_pod_has_it(wide: Release, receiver: Receiver, cluster: Cluster) -> None:
    """App and dispatcher alike; the release beside it leaves it alone."""
    subscribe(wide, receiver, "shared")
    sequence = cluster.get("whsub", "shared", wide.namespace)["status"]["configurationSequence"]
    with ExitStack() as stack:
        for pod in [*wide.pods(), *wide.pods("dispatcher")]:
            url = stack.enter_context(cluster.forwarded(f"pod/{pod}", wide.namespace, 9090))
            assert httpx.get(f"{url}/internal/configuration", timeout=10).json()["sequence"] >= sequence
    wide.publish()
    (request,) = receiver.wait_for("/shared")
    assert "webhook-signature" in request["headers"]


class Load:
    """Publishes at a steady pace until it is left; what is refused or unanswered is published again with its id."""

    def __init__(self, release: Release, *, keep_alive: bool, channel: str, per_second: float = 10) -> None:
        self._url = f"{release.url}/api/v1/events"
        self._headers = {"X-API-Key": release.api_key} | ({} if keep_alive else {"Connection": "close"})
        self._channel = channel
        self._pause = 1 / per_second
        self._name = secrets.token_hex(4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: list[str] = []
        self.problems: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10, headers=self._headers) as client:
            while not self._stop.wait(self._pause):
                event = {"type": "order.created", "id": f"{self._name}-{len(self.accepted)}", "channel": self._channel}
                while not self._is_accepted(client, event):
                    time.sleep(self._pause)
                self.accepted.append(event["id"])

    def _is_accepted(self, client: httpx.Client, event: dict[str, str]) -> bool:
        try:
            answer = client.post(self._url, json=event)
        except httpx.TransportError as error:
            self.problems[type(error).__name__] += 1
            return False
        if answer.status_code != 202:
            self.problems[str(answer.status_code)] += 1
        return answer.status_code == 202


async def test_a_rolling_restart_under_load_loses_nothing_acknowledged(
    wide: Release, receiver: Receiver, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """App and dispatcher are renewed while 20 events a second come in, and clients listen.

    No publish fails, also on connections that are kept; every acknowledged event arrives at the endpoint; clients are
    told to connect again, do, and get what is published then.
    """
    subscribe(wide, receiver, "rolled")
    channel = f"rolled-{secrets.token_hex(4)}"
    old = {*wide.pods(), *wide.pods("dispatcher")}
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(listening(wide.url, wide.token(f"user-{n}"), channel)) for n in range(6)
        ]
        with (
            Load(wide, keep_alive=False, channel=channel) as fresh,
            Load(wide, keep_alive=True, channel=channel) as kept,
        ):
            await eventually(lambda: min(len(fresh.accepted), len(kept.accepted)) > 10, "load")
            await asyncio.to_thread(restart, cluster, wide, old)
            after = len(kept.accepted)
            await eventually(lambda: len(kept.accepted) > after + 10, "load on the new pods")
        await eventually(lambda: all(client.subscribed > 1 for client in clients), "clients that are back")
        marker = (await asyncio.to_thread(wide.publish, channel=channel, type="news.published"))["id"]
        for client in clients:
            await eventually(lambda client=client: marker in ids(client.received), "a publication after it")  # type: ignore[misc]
            assert {code for code in client.codes if code} >= {3001}
    accepted = {*fresh.accepted, *kept.accepted}
    arrived: list[str] = []

    def missing() -> set[str]:
        arrived[:] = [json.loads(body_of(request))["id"] for request in receiver.requests("/rolled")]
        return accepted - set(arrived)

    await asyncio.to_thread(until, lambda: not missing() or None, "every acknowledged event at the endpoint")
    got = [len(ids(client.received) & accepted) for client in clients]
    twice = len(arrived) - len(set(arrived))
    with capsys.disabled():
        print(
            f"\nrolling restart: {len(accepted)} events; not accepted at once: {dict(fresh.problems)} on connections "
            f"of their own, {dict(kept.problems)} on a kept one; webhooks sent twice: {twice}; "
            f"clients got {min(got)} to {max(got)}, close codes {Counter(code for c in clients for code in c.codes)}"
        )
    assert (fresh.problems, kept.problems) == ({}, {})


def ids(received: list[object]) -> set[str]:
    return {event["id"] for event in received if isinstance(event, dict)}


def restart(cluster: Cluster, wide: Release, old: set[str]) -> None:
    """As `kubectl rollout restart` does it; returns when the old pods are gone."""
    for name in (wide.name, f"{wide.name}-dispatcher"):
        cluster.kubectl("rollout", "restart", f"deployment/{name}", "-n", wide.namespace)
    for name in (wide.name, f"{wide.name}-dispatcher"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", wide.namespace, "--timeout=180s", timeout=200)
    until(
        lambda: not old & {pod["metadata"]["name"] for pod in cluster.list("pods", wide.namespace)} or None,
        "an end of the old pods",
        within=120,
        every=0.5,
    )


def test_redis_is_reached_by_tls(wide: Release, receiver: Receiver, cluster: Cluster) -> None:
    """`rediss://` with an authority of one's own: after an upgrade all connections are by TLS, the data kept."""
    subscribe(wide, receiver, "by-tls")
    before = wide.publish()["id"]
    tls = {"redis": {"existingSecret": {"name": "redis-tls"}, "caSecret": {"name": "redis-tls"}}}
    with wide.changed(tls):
        wide.publish()
        receiver.wait_for("/by-tls", 2)
        assert wide.read(f"/api/v1/deliveries?event={before}")["items"]
        until(lambda: ports(cluster) == {"6380"} or None, "connections by TLS alone", every=0.5)


def ports(cluster: Cluster) -> set[str]:
    """Of Redis, that clients are connected to from other pods."""
    command = ("redis-cli", "--no-auth-warning", "-a", PASSWORD, "client", "list")
    clients = cluster.kubectl("exec", "deployment/redis", "-n", REDIS, "--", *command).stdout.splitlines()
    found = [dict(part.partition("=")[::2] for part in client.split()) for client in clients if client]
    return {one["laddr"].rpartition(":")[2] for one in found if not one["addr"].startswith("127.0.0.1")}
