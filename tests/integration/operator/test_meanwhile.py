"""What happens while the operator is at something else, and what others do to what it relies on."""

import time
from base64 import b64encode
from typing import Any

import pytest

from hookcast_operator.compile import Compiled, Compiler, World
from tests.integration.operator.conftest import Inside, applied, leading
from tests.support.app import eventually
from tests.support.cluster import Cluster
from tests.support.fake_pod import FakePod
from tests.support.kinds import secret, subscription
from tests.support.kubernetes import Fault

NEW_KEY = "whsec_" + b64encode(b"n" * 32).decode()


def in_force(pod: FakePod) -> bytes:
    """What the pod has."""
    return b"" if pod.document is None else pod.document.to_bytes()


async def test_a_secret_that_changes_during_the_first_compilation_is_taken(
    cluster: Cluster, pod: FakePod, in_this_process: pytest.MonkeyPatch
) -> None:
    """Nothing is known then of what refers to it; with many objects that takes seconds."""
    cluster.api.apply(subscription("orders"))
    compile_ = Compiler.compile
    told: list[bool] = []

    def slowly(self: Compiler, world: World) -> Compiled:
        compiled = compile_(self, world)
        if world.objects and not told:
            told.append(True)
            cluster.api.apply(secret(secret=NEW_KEY))
            time.sleep(1)  # in a thread: the watch tells of it meanwhile
        return compiled

    in_this_process.setattr(Compiler, "compile", slowly)
    async with leading():
        await cluster.ready(subscription("orders"))
        await eventually(lambda: NEW_KEY.encode() in in_force(pod))


def conditions_of(cluster: Cluster, raw: Any) -> list[Any]:
    """Whatever they lack."""
    found = cluster.api.get(raw)
    return [] if found is None else list(found["status"]["conditions"])


@pytest.mark.usefixtures("pod")
async def test_a_status_that_lacks_something_ends_nothing(cluster: Cluster, inside: Inside) -> None:
    """Whoever may write it may write anything that the definition allows."""
    raw = await applied(cluster)
    conditions = conditions_of(cluster, raw)
    for condition in conditions:
        del condition["observedGeneration"]

    cluster.api.write_status(raw, {"conditions": conditions})

    await eventually(lambda: all("observedGeneration" in one for one in conditions_of(cluster, raw)))
    assert inside.runs, inside.error


@pytest.mark.parametrize("more", [{"watch_namespaces": ("shop", "more")}])
@pytest.mark.usefixtures("inside")
async def test_a_deletion_that_was_told_counts_where_lists_are_refused(cluster: Cluster, pod: FakePod) -> None:
    """A RoleBinding goes first when a namespace is deleted: lists are refused then, and open watches go on."""
    cluster.api.apply(secret(meta={"namespace": "more"}))
    raw = subscription("orders", meta={"namespace": "more"})
    cluster.api.apply(raw)
    await cluster.ready(raw)

    def refused(call: Any) -> Fault | None:
        return Fault(code=403) if call.verb == "GET" and "/namespaces/more/" in call.path else None

    cluster.api.rules.append(refused)
    cluster.api.delete(raw)

    await eventually(lambda: b'"namespace":"more"' not in in_force(pod))
    await applied(cluster, "here")
    assert b'"namespace":"more"' not in in_force(pod)


@pytest.mark.usefixtures("pod")
async def test_a_watch_that_is_cut_amid_a_line_begins_anew(cluster: Cluster, inside: Inside) -> None:
    """A proxy may end an answer properly wherever it likes."""
    api: Any = cluster.api
    forward = api._forward
    cut: list[bool] = []

    async def halfway(response: Any, resource: Any, namespace: Any, request: Any) -> None:
        if resource.plural == "webhooksubscriptions" and not cut:
            cut.append(True)
            await response.write(b'{"type":"MODIFIED","object":{"metad')
        else:
            await forward(response, resource, namespace, request)

    api._forward = halfway
    api.cut_watches()

    await eventually(lambda: cut)
    await applied(cluster)
    assert inside.runs, inside.error


@pytest.mark.usefixtures("inside")
async def test_edits_count_after_the_cluster_was_restored_from_a_backup(cluster: Cluster, pod: FakePod) -> None:
    """Versions begin lower then: what a list says is how it is."""
    api: Any = cluster.api
    api.do(lambda store: setattr(store, "version", store.version + 50_000))
    raw = await applied(cluster, endpoint={"url": "https://before.example/"})

    def restore(store: Any) -> None:
        store.version -= 45_000
        store.history.clear()
        store.floor = store.version
        for stored in store.objects.values():
            version = int(stored["metadata"]["resourceVersion"])
            if version > store.version:
                stored["metadata"]["resourceVersion"] = str(version - 45_000)

    api.do(restore)
    api.forget()
    api.cut_watches()
    api.apply(raw | {"spec": raw["spec"] | {"endpoint": {"url": "https://after.example/"}}})

    await eventually(lambda: b"https://after.example/" in in_force(pod))
