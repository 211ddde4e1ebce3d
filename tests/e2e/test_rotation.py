"""The internal key is replaced as the documentation says, with live subscriptions."""

from base64 import b64decode, b64encode

import pytest
from cryptography.fernet import Fernet

from hookcast_core.document import MAX_BYTES
from hookcast_core.sealing import Sealer
from tests.e2e.cluster import Cluster, Receiver, Release, until

pytestmark = pytest.mark.timeout(600)
KEY = "HOOKCAST_INTERNAL_KEY"


def test_the_internal_key_is_replaced(release: Release, receiver: Receiver, cluster: Cluster) -> None:
    """Deliveries and edits go on, a last good version stays, and in the end the old key opens nothing."""
    old, new = release.keys[KEY], Fernet.generate_key().decode()
    endpoint = {"url": receiver.url("/rotated")}
    cluster.apply(release.subscription("rotated", {"endpoint": endpoint}))
    release.wait_ready("rotated")

    give_keys(release, f"{new},{old}")
    release.restart("statefulset")
    release.restart("deployment")
    until(lambda: Sealer([new]).is_newest(stored(cluster, release)) or None, "everything sealed anew")
    cluster.apply(release.subscription("rotated", {"endpoint": endpoint, "events": {"filter": "no such thing"}}))
    until(lambda: release.condition("rotated", "Accepted").get("reason") == "InvalidFilter" or None, "a refusal")
    give_keys(release, new)
    release.restart("statefulset")
    release.restart("deployment")

    before = len(receiver.requests("/rotated"))
    release.publish()
    receiver.wait_for("/rotated", before + 1)
    mended = {"endpoint": {"url": receiver.url("/rotated/2")}, "events": {"filter": "true"}}
    cluster.apply(release.subscription("rotated", mended))
    release.wait_ready("rotated")
    release.publish()
    receiver.wait_for("/rotated/2")
    assert Sealer([new]).open(stored(cluster, release), MAX_BYTES)


def give_keys(release: Release, keys: str) -> None:
    """Writes the Secret as a user does."""
    body = {"data": {KEY: b64encode(keys.encode()).decode()}}
    path = f"/api/v1/namespaces/{release.namespace}/secrets/{release.fullname}-keys"
    headers = {"Content-Type": "application/merge-patch+json"}
    assert release.cluster.api.patch(path, json=body, headers=headers).status_code == 200


def stored(cluster: Cluster, release: Release) -> bytes:
    """What is in force, sealed; small enough for one chunk."""
    manifest = cluster.decoded(f"{release.fullname}-configuration", release.namespace)
    chunk = cluster.get("secret", f"{release.fullname}-configuration-{manifest['set']}-0", release.namespace)
    return b64decode(chunk["data"]["content"])
