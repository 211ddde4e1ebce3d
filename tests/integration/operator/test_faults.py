"""An API server that is away, slow, blind or contrary: the operator goes on, and ends up with what should be."""

import asyncio
import time
from base64 import b64decode
from typing import Any

import httpx
import pytest

from hookcast_operator import generated, operating, watches
from tests.integration.operator.conftest import Inside, applied, carries_suspended
from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, RELEASE, Cluster
from tests.support.fake_pod import FakePod
from tests.support.kinds import Raw, secret, subscription
from tests.support.kubernetes import Call, Fault

pytestmark = pytest.mark.usefixtures("inside")
KINDS = "webhooksubscriptions"


def carries(pod: FakePod, *names: str) -> bool:
    """Whether a pod has exactly these."""
    found = [] if pod.document is None else pod.document.entries
    return len(found) == len(names) and all(any(b'"%s"' % name.encode() in line for line in found) for name in names)


async def test_a_server_that_is_away_for_a_while(cluster: Cluster, pod: FakePod) -> None:
    """What changed meanwhile is in force soon after, though its watches were cut; nothing ends."""
    gone, kept = await applied(cluster, "gone"), await applied(cluster, "kept")
    cluster.api.down()
    await asyncio.sleep(3)  # the fault is that it takes this long
    cluster.api.delete(gone)
    kept["spec"]["suspend"] = True
    cluster.api.apply(kept)
    cluster.api.apply(subscription("new"))
    began = time.monotonic()

    cluster.api.up()

    await eventually(lambda: carries(pod, "kept", "new"))
    assert time.monotonic() - began < 10
    await cluster.says(kept, "Ready", "Suspended")
    await cluster.ready(subscription("new"))


async def test_what_was_deleted_while_watches_were_blind_is_gone(cluster: Cluster, pod: FakePod) -> None:
    """By the next list, whatever the watches never tell."""
    await applied(cluster, "kept")
    gone = await applied(cluster, "gone")
    cluster.api.blind_to = lambda _, kind: kind == "DELETED"

    cluster.api.delete(gone)

    await eventually(lambda: carries(pod, "kept"))


async def test_a_forgotten_history_is_made_up_for_by_a_list(cluster: Cluster, pod: FakePod) -> None:
    """Watches end while objects change and go, and cannot resume: 410."""
    kept, gone = await applied(cluster, "kept"), await applied(cluster, "gone")
    cluster.api.down()
    cluster.api.delete(gone)
    kept["spec"]["suspend"] = True
    cluster.api.apply(kept)
    cluster.api.forget()
    cluster.api.up()

    await eventually(lambda: carries(pod, "kept"))
    await cluster.says(kept, "Ready", "Suspended")


async def test_a_watch_that_stalls_is_noticed(
    cluster: Cluster, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event and no bookmark: liveness names the stream, and not while the server does not answer at all."""
    monkeypatch.setattr(watches, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(operating, "UNREACHABLE_SECONDS", 2.0)
    async with httpx.AsyncClient(base_url=inside.url) as client:

        async def failing() -> Any:
            answer = (await client.get("/health/live")).json()
            return answer.get("failing", {})

        assert await failing() == {}
        cluster.api.stalled.add(KINDS)
        cluster.api.cut_watches(KINDS)

        async def is_named() -> bool:
            return bool((await failing()).get("watches") == f"silent for too long: {KINDS}")

        await eventually(is_named)
        cluster.api.rules.append(lambda _: Fault(hang=True))
        cluster.api.cut_watches()

        async def is_quiet() -> bool:
            ready = (await client.get("/health/ready")).json().get("failing", {})
            return bool(await failing() == {} and ready.get("API server") == "no answer")

        await eventually(is_quiet)
        cluster.api.rules.clear()
        cluster.api.stalled.clear()


async def test_a_stalled_watch_still_misses_nothing(cluster: Cluster, pod: FakePod) -> None:
    """The next list finds what it did not tell."""
    cluster.api.stalled.add(KINDS)

    cluster.api.apply(subscription("unseen"))

    await eventually(lambda: carries(pod, "unseen"))
    cluster.api.stalled.clear()


@pytest.mark.parametrize("code", [409, 429, 500, 503])
async def test_every_write_is_refused_for_a_while(cluster: Cluster, pod: FakePod, code: int) -> None:
    """A conflict, too many requests, an error: tried again, within bounds, until it is done."""
    raw = await applied(cluster)
    writes = {"POST", "PUT", "PATCH"}
    cluster.api.rules.append(
        lambda call: Fault(code=code) if call.verb in writes and "/leases" not in call.path else None
    )
    raw["spec"]["suspend"] = True
    before = len(cluster.api.calls)
    cluster.api.apply(raw)
    await eventually(lambda: len(cluster.writes(before)) >= 4)
    assert not carries_suspended(pod)

    cluster.api.rules.clear()

    await cluster.says(raw, "Ready", "Suspended")
    assert carries_suspended(pod)
    assert len(cluster.writes(before)) < 40, "it waits longer each time"


async def test_a_signing_secret_that_is_refused_is_told_and_not_asked_for_all_the_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a quota: in the API server's words; of many together, only so many attempts are made."""
    monkeypatch.setattr(generated, "RETRY_SECONDS", (0.01,))
    cluster.api.rules.append(lambda call: Fault(code=403) if refused(call) else None)
    raws = [subscription(f"s{number}", signing={}) for number in range(30)]
    before, began = len(cluster.api.calls), time.monotonic()

    def attempts() -> int:
        return sum(map(refused, cluster.api.calls[before:]))

    for raw in raws:
        cluster.api.apply(raw)
    await eventually(lambda: attempts() >= len(raws) + generated.RETRY_BURST + 2)

    most = len(raws) + generated.RETRY_BURST + generated.RETRY_RATE * (time.monotonic() - began) + 1
    assert attempts() <= most
    condition = await cluster.says(raws[0], "ResolvedRefs", "SecretNotFound")
    assert condition["message"].startswith("spec.signing.keys: the Secret s0-webhook-secret cannot be generated: 403")
    cluster.api.rules.clear()
    for raw in raws:
        await cluster.ready(raw)


def refused(call: Call) -> bool:
    return call.verb == "POST" and call.path.endswith("/namespaces/shop/secrets")


async def test_a_status_is_not_written_to_another_object_of_the_name(cluster: Cluster, pod: FakePod) -> None:
    """One that was made while the status of the one before was on its way; nor over a version that nobody told of."""
    cluster.api.rules.append(lambda call: Fault(delay=0.5) if call.verb == "PATCH" else None)
    cluster.api.apply(subscription())
    await eventually(lambda: carries(pod, "orders"))
    cluster.api.stalled.add(KINDS)
    cluster.api.delete(subscription())
    cluster.api.apply(subscription(suspend=True))
    before = len(cluster.api.calls)

    await eventually(lambda: [one for one in cluster.writes(before) if "PATCH" in one])

    first = next(one for one in cluster.writes(before) if "PATCH" in one)
    assert first.endswith("409")
    await cluster.says(subscription(), "Ready", "Suspended")
    cluster.api.stalled.clear()


async def test_an_answer_that_is_lost_is_found_out(cluster: Cluster, pod: FakePod) -> None:
    """Each write takes effect once and its answer is cut off: what is there is read, and nothing is doubled."""
    seen: set[tuple[str, str]] = set()

    def once(call: Call) -> Fault | None:
        key = (call.verb, call.path)
        if call.verb not in {"POST", "PUT", "PATCH"} or key in seen:
            return None
        seen.add(key)
        return Fault(cut="after")

    cluster.api.rules.append(once)

    raw = await applied(cluster, signing={})

    assert carries(pod, "orders")
    await eventually(lambda: told(cluster, "orders"))
    await cluster.quiet()
    assert len(told(cluster, "orders")) == 1
    made = cluster.api.get(secret("orders-webhook-secret"))
    assert made is not None
    assert pod.document is not None
    assert b64decode(made["data"]["secret"]) in pod.document.entries[0]
    await cluster.says(raw, "Programmed", "Programmed")


def told(cluster: Cluster, name: str) -> list[Raw]:
    """Events about an object."""
    return [one for one in cluster.api.all("events") if one["involvedObject"]["name"] == name]


async def test_stored_configuration_that_was_deleted_is_written_anew(cluster: Cluster, pod: FakePod) -> None:
    """With another origin, which every pod takes, and at once where only a chunk is missing."""
    raw = await applied(cluster)
    assert pod.document is not None
    origin = pod.document.origin
    names = [
        one["metadata"]["name"] for one in cluster.api.all("secrets") if "-configuration" in one["metadata"]["name"]
    ]
    for name in names:
        cluster.api.delete({"kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}})

    await eventually(lambda: pod.document is not None and pod.document.origin != origin)

    assert carries(pod, "orders")
    await cluster.says(raw, "Programmed", "Programmed")
    found = {one["metadata"]["name"] for one in cluster.api.all("secrets")}
    assert f"{RELEASE}-configuration" in found


async def test_a_chunk_that_was_changed_is_written_anew(cluster: Cluster, pod: FakePod) -> None:
    """By anyone's hand, at the next resync: a pod that starts from it would find nothing."""
    await applied(cluster)
    manifest = cluster.api.get(
        {"kind": "Secret", "metadata": {"name": f"{RELEASE}-configuration", "namespace": NAMESPACE}}
    )
    assert manifest is not None
    sequence = int(b64decode(manifest["data"]["sequence"]))
    for one in cluster.api.all("secrets"):
        if one["metadata"]["name"].startswith(f"{RELEASE}-configuration-"):
            cluster.api.apply(one | {"data": {"content": "eA=="}})

    await eventually(lambda: pod.document is not None and pod.document.sequence > sequence)

    assert carries(pod, "orders")


async def test_watches_that_are_cut_at_once_make_no_busy_loop(cluster: Cluster, pod: FakePod) -> None:
    """A proxy that ends every stream: the operator asks again and again, but not as often as it can."""
    await applied(cluster)
    cluster.api.rules.append(lambda call: Fault(cut="before") if call.verb == "WATCH" else None)
    cluster.api.cut_watches()
    before = len(cluster.api.calls)
    await asyncio.sleep(2)  # the fault is that it goes on

    assert len(cluster.api.calls) - before < 200
    cluster.api.apply(subscription("listed"))
    await eventually(lambda: carries(pod, "orders", "listed"))
    cluster.api.rules.clear()


async def test_slow_answers_delay_but_do_not_disturb(cluster: Cluster, pod: FakePod) -> None:
    """Statuses that take long hold up no publication."""
    cluster.api.rules.append(lambda call: Fault(delay=3) if call.verb == "PATCH" else None)
    for number in range(30):
        cluster.api.apply(subscription(f"slow-{number}"))
    await eventually(lambda: pod.document is not None and len(pod.document.entries) == 30)
    began = time.monotonic()

    cluster.api.apply(subscription("urgent"))

    await eventually(lambda: pod.document is not None and len(pod.document.entries) == 31)
    assert time.monotonic() - began < 3


async def test_nothing_is_kept_of_what_was_deleted(cluster: Cluster, pod: FakePod) -> None:
    """Secrets and objects that come and go leave the stored configuration as small as it was."""
    await applied(cluster, "kept")
    for _ in range(3):
        many = [subscription(f"many-{number}", signing={}) for number in range(20)]
        for raw in many:
            cluster.api.apply(raw)
        await eventually(lambda: pod.document is not None and len(pod.document.entries) == 21)
        for raw in many:
            cluster.api.delete(raw)
        await eventually(lambda: carries(pod, "kept"))

    await eventually(lambda: len([one for one in cluster.api.all("secrets") if "many" in one["metadata"]["name"]]) == 0)
