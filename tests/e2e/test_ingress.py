"""Through a real Ingress controller and Gateway (Traefik): what users reach, and what they do not.

`HOOKCAST_E2E_INGRESS` names the manifest of a Traefik that answers as class `traefik` on the node's ports 30080 and
30443, `HOOKCAST_E2E_GATEWAY` that of the Gateway API's definitions.
"""

import json
import os
import secrets
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.certificates import issued_for
from tests.e2e.cluster import Cluster, Object, Release, until
from tests.e2e.realtime_clients import eventually, listening

CONTROLLER = os.environ.get("HOOKCAST_E2E_INGRESS", "")
GATEWAY = os.environ.get("HOOKCAST_E2E_GATEWAY", "")
HOSTS = {"Ingress": "ingress.hookcast.example", "HTTPRoute": "gateway.hookcast.example"}
PORTS = {"http": 30080, "https": 30443}
IMAGE = "traefik:v3.6.12"

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (CONTROLLER and GATEWAY), reason="HOOKCAST_E2E_INGRESS and HOOKCAST_E2E_GATEWAY name no manifests"
    ),
]


@dataclass(frozen=True)
class Way:
    """From outside to the main Service."""

    url: str
    context: ssl.SSLContext

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.context, timeout=10, trust_env=False)


@pytest.fixture(scope="module")
def certificate() -> dict[str, str]:
    return issued_for(*HOSTS.values())


@pytest.fixture(scope="module")
def controller(cluster: Cluster) -> None:
    """Traefik, for Ingress and Gateway API."""
    cluster.load(IMAGE)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", GATEWAY)
    manifest = Path(CONTROLLER).read_text().replace("kubernetesgateway=false", "kubernetesgateway=true")
    cluster.kubectl("apply", "-f", "-", given=manifest)
    cluster.kubectl("rollout", "status", "deployment/traefik", "-n", "traefik", "--timeout=120s")


def gateway(certificate: str) -> Iterator[Object]:
    """Traefik's listeners have its own ports."""
    group = "gateway.networking.k8s.io/v1"
    controlled = {"controllerName": "traefik.io/gateway-controller"}
    yield {"apiVersion": group, "kind": "GatewayClass", "metadata": {"name": "traefik"}, "spec": controlled}
    everybody = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    tls = {"mode": "Terminate", "certificateRefs": [{"name": certificate}]}
    listeners = [
        {"name": "http", "protocol": "HTTP", "port": 8000, **everybody},
        {"name": "https", "protocol": "HTTPS", "port": 8443, "tls": tls, **everybody},
    ]
    yield {
        "apiVersion": group,
        "kind": "Gateway",
        "metadata": {"name": "tests", "namespace": "traefik"},
        "spec": {"gatewayClassName": "traefik", "listeners": listeners},
    }


@pytest.fixture(scope="module")
def exposed(cluster: Cluster, release: Release, controller: None, certificate: dict[str, str]) -> Iterator[None]:  # noqa: ARG001
    """The release with an Ingress and an HTTPRoute, each with a host of its own."""
    for namespace in (release.namespace, "traefik"):
        meta = {"name": "tests-certificate", "namespace": namespace}
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": meta,
                "stringData": certificate,
            }
        )
    cluster.apply(*gateway("tests-certificate"))
    values = {
        "ingress": {
            "enabled": True,
            "controller": "traefik",
            "className": "traefik",
            "hosts": [{"host": HOSTS["Ingress"]}],
            "tls": [{"secretName": "tests-certificate", "hosts": [HOSTS["Ingress"]]}],
        },
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "tests", "namespace": "traefik"}],
            "hostnames": [HOSTS["HTTPRoute"]],
        },
    }
    with release.changed(values):
        yield


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(HOSTS))
def way(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    exposed: None,  # noqa: ARG001
    certificate: dict[str, str],
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Way:
    """Hosts have the node's address for this process; certificates are verified."""
    known = socket.getaddrinfo

    def found(host: object, *arguments: object, **options: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        return known(cluster.address if name in HOSTS.values() else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    url = f"{scheme}://{HOSTS[request.param]}:{PORTS[scheme]}"
    result = Way(url, ssl.create_default_context(cadata=certificate["ca.crt"]))
    with result.client() as client:
        until(lambda: answers(client, "/health/ready") == 200 or None, f"an answer by way of {url}")
    return result


def answers(client: httpx.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


def publish(way: Way, release: Release, channel: str) -> str:
    """As a publisher outside does."""
    event = {"type": "order.created", "channel": channel, "data": {"amount": 5}}
    with way.client() as client:
        answer = client.post("/api/v1/events", json=event, headers={"X-API-Key": release.api_key})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_stock_websocket_client_gets_what_is_published(way: Way, release: Release) -> None:
    """It connects, subscribes, and gets an event that was published the same way."""
    channel = f"orders-{secrets.token_hex(4)}"
    context = way.context if way.url.startswith("https") else None
    async with listening(way.url, release.token("ann"), channel, context) as listener:
        published = publish(way, release, channel)
        await eventually(lambda: len(listener.received) > 0, "a publication")

    assert [event["id"] for event in listener.received] == [published]  # type: ignore[index]
    assert listener.codes == [0], "it stayed connected"


def test_server_sent_events_pass_at_once(way: Way, release: Release) -> None:
    """Nothing between holds them back: an event is read while the stream is open."""
    channel = f"orders-{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {release.token('ann')}"}
    with way.client() as client, client.stream("GET", f"/sse/{channel}", headers=headers) as stream:
        assert stream.status_code == 200
        published = publish(way, release, channel)
        data = next(line for line in stream.iter_lines() if line.startswith("data:"))

    assert json.loads(data.removeprefix("data:"))["id"] == published


def test_what_is_for_the_operator_and_monitoring_is_not_reachable(way: Way, release: Release) -> None:
    """Neither metrics nor configuration, whatever a client claims; on the admin port they are there."""
    paths = ["/metrics", "/internal/configuration", "/internal/deliveries/health"]
    pod = f"pod/{release.pods()[0]}"
    with release.cluster.forwarded(pod, release.namespace, 9090) as admin:
        assert [httpx.get(f"{admin}{path}", timeout=10).status_code for path in paths] == [200, 200, 200]

    claims = {"X-Forwarded-Port": "9090", "X-Forwarded-Host": "127.0.0.1:9090", "Forwarded": "for=127.0.0.1"}
    with way.client() as client:
        for path in [*paths, "//metrics", "/./metrics", "/api/../metrics", "/internal/%63onfiguration"]:
            for headers in ({}, claims, {"X-API-Key": release.api_key}):
                assert client.get(path, headers=headers).status_code in {400, 404}, path
        assert client.put("/internal/configuration", content=b"x").status_code in {404, 405}
