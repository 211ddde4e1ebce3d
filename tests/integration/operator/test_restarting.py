"""What an operator makes of what another left behind, or of what changed while there was none."""

from base64 import b64decode, b64encode
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from cryptography.fernet import Fernet

from hookcast_core.sealing import Sealer
from hookcast_operator import missed, watches
from tests.integration.operator.conftest import Inside, leading
from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, RELEASE, Cluster
from tests.support.fake_pod import FakePod
from tests.support.kinds import secret, subscription
from tests.support.kubernetes import Fault

pytestmark = pytest.mark.usefixtures("in_this_process")


def restarted(cluster: Cluster, keys: str, **settings: Any) -> AbstractAsyncContextManager[Inside]:
    """An operator that has these internal keys."""
    name = {"metadata": {"name": f"{RELEASE}-keys", "namespace": NAMESPACE}}
    cluster.api.apply(secret() | name | {"data": {"HOOKCAST_INTERNAL_KEY": b64encode(keys.encode()).decode()}})
    return leading(**settings)


async def test_the_internal_key_can_be_replaced(cluster: Cluster, pod: FakePod) -> None:
    """With `new,old` all is sealed anew: when the old one is gone, so is nothing else, not even a last good version."""
    old, new = pod.key, Fernet.generate_key().decode()
    raw = subscription("orders")
    async with restarted(cluster, old):
        cluster.api.apply(raw)
        await cluster.ready(raw)

    pod.key = new
    async with restarted(cluster, f"{new},{old}"):
        await eventually(lambda: Sealer([new]).is_newest(pod.tokens[-1]))
        await cluster.ready(raw)
    raw["spec"]["events"]["filter"] = "no such thing"
    cluster.api.apply(raw)
    async with restarted(cluster, new):
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
    async with restarted(cluster, pod.key):
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

    async with restarted(cluster, pod.key):
        await cluster.says(raw, "Accepted", "InvalidFilter")

    assert pod.document.sequence > sequence
    assert len(pod.document.entries) == 2


async def test_annotations_of_kopf_s_name_mean_nothing(cluster: Cluster, pod: FakePod) -> None:
    """Whoever may edit an object could have its changes go unseen until the next list."""
    names = ("last-handled-configuration", "handler", "touch-dummy")
    annotations = {f"kopf.zalando.org/{name}": "{" for name in names}
    raw = subscription(meta={"annotations": annotations})
    async with restarted(cluster, pod.key):
        cluster.api.apply(raw)
        await cluster.ready(raw)
        raw["spec"]["suspend"] = True
        cluster.api.apply(raw)
        await cluster.says(raw, "Ready", "Suspended")


async def test_a_namespace_that_may_not_be_listed_stays_as_it_was(
    cluster: Cluster, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after it was deleted with the operator's rights in it: others go on, also after a restart."""
    monkeypatch.setattr(watches, "FORBIDDEN_SECONDS", (0.5,))
    raw, lost = subscription("orders"), subscription("orders", meta={"namespace": "lost"})
    cluster.api.apply(secret(meta={"namespace": "lost"}))
    watched = ("shop", "lost")
    async with restarted(cluster, pod.key, watch_namespaces=watched):
        for one in (raw, lost):
            cluster.api.apply(one)
            await cluster.ready(one)
    refusal = Fault(code=403)
    cluster.api.rules.append(lambda call: refusal if "/namespaces/lost/" in call.path else None)

    before = len(cluster.api.calls)
    async with restarted(cluster, pod.key, watch_namespaces=watched):
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


async def test_a_secret_that_lacks_its_label_is_never_said_to_be_missing(
    cluster: Cluster, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at first, and not by an operator that starts; when it goes or comes, that is found out without a list."""
    monkeypatch.setattr(missed, "WAITS", (0.3,))
    unlabelled = secret("plain", allowed=False)
    cluster.api.apply(unlabelled)
    raw = subscription(signing={"keys": [{"secretRef": {"name": "plain", "key": "secret"}}]})
    async with restarted(cluster, pod.key):
        cluster.api.apply(raw)
        await cluster.says(raw, "ResolvedRefs", "SecretNotAllowed")
    async with restarted(cluster, pod.key):
        await cluster.quiet()
        assert not any(b"SecretNotFound" in call.body for call in cluster.api.calls)

        cluster.api.delete(unlabelled)
        await cluster.says(raw, "ResolvedRefs", "SecretNotFound")
        cluster.api.apply(unlabelled)
        await cluster.says(raw, "ResolvedRefs", "SecretNotAllowed")
