"""Which statuses are written first, and which wait."""

import httpx
import pytest

from hookcast_operator import status
from tests.integration.operator.conftest import Inside, applied
from tests.support.app import eventually
from tests.support.cluster import Cluster
from tests.support.fake_pod import FakePod


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no new generation waits for minutes."""
    monkeypatch.setattr(status, "RATE", 0.001)
    monkeypatch.setattr(status, "BURST", 0)


@pytest.mark.usefixtures("slow")
async def test_an_edit_does_not_wait_behind_its_own_older_status(
    cluster: Cluster, pod: FakePod, inside: Inside
) -> None:
    """As when a thousand others' statuses are to be written, because a pod or an endpoint fails."""
    raw = await applied(cluster)
    found = cluster.api.get(raw)
    assert found is not None
    last = {"at": 1_767_225_600_000, "outcome": "Failed", "reason": "BadStatus"}
    pod.deliveries = [{"uid": found["metadata"]["uid"], "state": "Failing", "reason": "BadStatus", "last": last}]

    async def waits() -> bool:
        async with httpx.AsyncClient() as client:
            return "hookcast_operator_status_queue 1.0" in (await client.get(f"{inside.url}/metrics")).text

    await eventually(waits)
    raw["spec"]["suspend"] = True
    cluster.api.apply(raw)

    await cluster.says(raw, "Ready", "Suspended")
