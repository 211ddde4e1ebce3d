"""An operator process that starts, whatever it finds, and ends when it is told to."""

import signal
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.fernet import Fernet

from hookcast_core.sealing import Sealer
from tests.integration.operator.conftest import holder, is_alive
from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, RELEASE, Cluster, OperatorProcess
from tests.support.fake_pod import FakePod
from tests.support.kinds import secret, subscription
from tests.support.kubernetes import Fault

CLAIM = {"kind": "ClusterRoleBinding", "metadata": {"name": "hookcast-dispatcher-hookcast"}}


def started(cluster: Cluster, name: str = "operator-0", **settings: str) -> OperatorProcess:
    operator: OperatorProcess = cluster.operator(name, patches={}, **settings).start()
    return operator


async def test_a_signal_ends_it_soon_and_gives_the_lease_back(cluster: Cluster, pod: FakePod) -> None:
    """With status 0; the next one need not wait for it to run out."""
    first = started(cluster)
    await first.ready()
    await eventually(lambda: pod.document)
    began = time.monotonic()

    first.send(signal.SIGTERM)

    assert await first.ended() == 0
    assert time.monotonic() - began < 5
    assert holder(cluster) == ""
    second = started(cluster, "operator-1")
    await second.ready()
    assert holder(cluster) == "operator-1"


async def test_a_signal_ends_it_soon_while_the_server_hangs(cluster: Cluster, pod: FakePod) -> None:
    """Whatever it waits for; the lease runs out."""
    operator = started(cluster)
    await operator.ready()
    await eventually(lambda: pod.document)
    cluster.api.rules.append(lambda _: Fault(hang=True))
    began = time.monotonic()

    operator.send(signal.SIGTERM)

    assert await operator.ended() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("claim", "settings", "words"),
    [
        (None, {}, "there is no ClusterRoleBinding hookcast-dispatcher-hookcast"),
        ("other", {}, "is served by release another in namespace other"),
        ("system", {"EGRESS_ALLOW": "nonsense:x:y"}, "HOOKCAST_EGRESS_ALLOW"),
        ("system", {"NAMESPACE": "Not A Name"}, "HOOKCAST_NAMESPACE"),
        ("system", {"KEYS_SECRET": "signing", "NAMESPACE": "shop"}, "Fernet keys"),
    ],
)
async def test_an_installation_that_does_not_hold_is_told(
    cluster: Cluster, claim: str | None, settings: dict[str, str], words: str
) -> None:
    """At the start, in one line, with status 2."""
    if claim is None:
        cluster.api.delete(CLAIM)
    else:
        cluster.api.apply(CLAIM | {"subjects": [{"name": f"{RELEASE}-operator", "namespace": claim}]})

    operator = started(cluster, **settings)

    assert await operator.ended() == 2
    assert words in operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()
    assert cluster.writes() == []


async def test_the_internal_key_can_be_replaced(cluster: Cluster, pod: FakePod) -> None:
    """With `new,old` all is sealed anew: when the old one is gone, so is nothing else, not even a last good version."""
    old, new = pod.key, Fernet.generate_key().decode()
    raw = subscription("orders")
    async with leading(cluster, old):
        cluster.api.apply(raw)
        await cluster.ready(raw)

    pod.key = new
    async with leading(cluster, f"{new},{old}"):
        await eventually(lambda: Sealer([new]).is_newest(pod.tokens[-1]))
        await cluster.ready(raw)
    raw["spec"]["events"]["filter"] = "no such thing"
    cluster.api.apply(raw)
    async with leading(cluster, new):
        await cluster.says(raw, "Accepted", "InvalidFilter")

    assert pod.document is not None
    (line,) = pod.document.entries
    assert b"no such thing" not in line


@pytest.mark.parametrize("damaged", ["chunk", "manifest"])
async def test_where_what_is_stored_was_damaged_the_other_set_is_what_was_good(
    cluster: Cluster, pod: FakePod, damaged: str
) -> None:
    """By anyone's hand, while a new generation does not hold: the subscription stays as it was last."""
    raw = subscription("orders")
    async with leading(cluster, pod.key):
        cluster.api.apply(raw)
        await cluster.ready(raw)
        cluster.api.apply(subscription("more"))  # so that both sets hold the other one
        await cluster.ready(subscription("more"))
    assert pod.document is not None
    sequence = pod.document.sequence
    name = {"metadata": {"name": f"{RELEASE}-configuration", "namespace": NAMESPACE}}
    manifest = cluster.api.get(secret() | name)
    assert manifest is not None
    if damaged == "manifest":
        cluster.api.delete(secret() | name)
    else:
        name["metadata"]["name"] += f"-{b64decode(manifest['data']['set']).decode()}-0"
        chunk = cluster.api.get(secret() | name)
        assert chunk is not None
        cluster.api.apply(chunk | {"data": {**chunk["data"], "content": "eA=="}})
    raw["spec"]["events"]["filter"] = "no such thing"
    cluster.api.apply(raw)

    async with leading(cluster, pod.key):
        await cluster.says(raw, "Accepted", "InvalidFilter")

    assert pod.document.sequence > sequence
    assert len(pod.document.entries) == 2


async def test_annotations_of_kopf_s_name_mean_nothing(cluster: Cluster, pod: FakePod) -> None:
    """Whoever may edit an object could have its changes go unseen until the next list."""
    names = ("last-handled-configuration", "handler", "touch-dummy")
    annotations = {f"kopf.zalando.org/{name}": "{" for name in names}
    raw = subscription(meta={"annotations": annotations})
    async with leading(cluster, pod.key):
        cluster.api.apply(raw)
        await cluster.ready(raw)
        raw["spec"]["suspend"] = True
        cluster.api.apply(raw)
        await cluster.says(raw, "Ready", "Suspended")


async def test_a_namespace_that_may_not_be_listed_stays_as_it_was(cluster: Cluster, pod: FakePod) -> None:
    """As after it was deleted with the operator's rights in it: others go on, also after a restart."""
    raw, lost = subscription("orders"), subscription("orders", meta={"namespace": "lost"})
    cluster.api.apply(secret(meta={"namespace": "lost"}))
    watched = {"WATCH_NAMESPACES": "shop,lost"}
    async with leading(cluster, pod.key, **watched):
        for one in (raw, lost):
            cluster.api.apply(one)
            await cluster.ready(one)
    refusal = Fault(code=403)
    cluster.api.rules.append(lambda call: refusal if "/namespaces/lost/" in call.path else None)

    before = len(cluster.api.calls)
    async with leading(cluster, pod.key, **watched):
        raw["spec"]["suspend"] = True
        cluster.api.apply(raw)
        await cluster.says(raw, "Ready", "Suspended")
        await cluster.quiet(3)
        assert pod.document is not None
        assert sorted(b'"namespace":"lost"' in line for line in pod.document.entries) == [False, True]
        refused = [call for call in cluster.api.calls[before:] if call.code == 403]
        assert 4 <= len(refused) < 60
        cluster.api.rules.clear()
        lost["spec"]["suspend"] = True
        cluster.api.apply(lost)
        await cluster.says(lost, "Ready", "Suspended")


async def test_a_secret_that_lacks_its_label_is_never_said_to_be_missing(cluster: Cluster, pod: FakePod) -> None:
    """Not at first, and not by an operator that starts; when it goes or comes, that is told within seconds."""
    unlabelled = secret("plain", allowed=False)
    cluster.api.apply(unlabelled)
    raw = subscription(signing={"keys": [{"secretRef": {"name": "plain", "key": "secret"}}]})
    async with leading(cluster, pod.key):
        cluster.api.apply(raw)
        await cluster.says(raw, "ResolvedRefs", "SecretNotAllowed")
    async with leading(cluster, pod.key):
        await cluster.quiet()
        assert not any(b"SecretNotFound" in call.body for call in cluster.api.calls)

        cluster.api.delete(unlabelled)
        await cluster.says(raw, "ResolvedRefs", "SecretNotFound")
        cluster.api.apply(unlabelled)
        await cluster.says(raw, "ResolvedRefs", "SecretNotAllowed")


@asynccontextmanager
async def leading(cluster: Cluster, keys: str, **settings: str) -> AsyncIterator[None]:
    """An operator that has these internal keys."""
    name = {"metadata": {"name": f"{RELEASE}-keys", "namespace": NAMESPACE}}
    cluster.api.apply(secret() | name | {"data": {"HOOKCAST_INTERNAL_KEY": b64encode(keys.encode()).decode()}})
    operator = started(cluster, **settings)
    await operator.ready()
    yield
    operator.send(signal.SIGTERM)
    assert await operator.ended() == 0


async def test_it_waits_for_a_server_that_is_not_there_yet(cluster: Cluster, pod: FakePod) -> None:
    """The API server comes after the operator, as when a cluster starts."""
    cluster.api.down()
    operator = started(cluster)
    await eventually(lambda: is_alive(operator), 30)
    assert "start" in await operator.health()

    cluster.api.up()

    await operator.ready()
    await eventually(lambda: pod.document)
