"""What the operator relies on of an API server: run against the stand-in, and with a cluster against a real one.

Each case takes the operator's own client and a namespace that is its own.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from hookcast_operator.api import Api, path_of
from hookcast_operator.errors import AlreadyExists, ApiRefused, Conflict, NotFound
from tests.support.app import eventually

Raw = dict[str, Any]
GROUP = "hookcast.dev/v1alpha1"
KIND = "webhooksubscriptions"


def a_secret(name: str, *, labels: dict[str, str] | None = None, **data: str) -> Raw:
    content = {key: b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels or {}}, "data": content}


def a_subscription(name: str) -> Raw:
    spec = {
        "dispatcherRef": {"name": "nobody"},  # an operator in the cluster writes nothing to it
        "endpoint": {"url": "https://shop.example"},
        "events": {"types": ["order.*"]},
    }
    return {"apiVersion": GROUP, "kind": "WebhookSubscription", "metadata": {"name": name}, "spec": spec}


async def delete(api: Api, path: str) -> None:
    await api._request("DELETE", path)


async def case_objects_are_made_once(api: Api, namespace: str) -> None:
    """A second one of the name is refused as such; what is not there as well."""
    secrets = path_of("v1", "secrets", namespace)
    made = await api.create(secrets, a_secret("a", key="value"))

    assert made["metadata"]["uid"]
    assert made["metadata"]["namespace"] == namespace
    assert (await api.get(f"{secrets}/a"))["data"] == made["data"]
    with pytest.raises(AlreadyExists):
        await api.create(secrets, a_secret("a"))
    with pytest.raises(NotFound):
        await api.get(f"{secrets}/b")


async def case_a_replacement_names_its_version(api: Api, namespace: str) -> None:
    """An older one is refused, the same content is no new version, and a deleted one is not made again."""
    path = path_of("v1", "secrets", namespace, "a")
    first = await api.create(path_of("v1", "secrets", namespace), a_secret("a", key="1"))
    second = await api.replace(path, first | {"data": {"key": "Mg=="}})

    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await api.replace(path, first | {"data": {"key": "Mw=="}})
    same = await api.replace(path, second)
    assert same["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    await delete(api, path)
    with pytest.raises((NotFound, Conflict)):
        await api.replace(path, second)


async def case_a_type_stays(api: Api, namespace: str) -> None:
    """And a Secret has a mebibyte at most."""
    secrets = path_of("v1", "secrets", namespace)
    made = await api.create(secrets, a_secret("a") | {"type": "hookcast.dev/configuration"})

    with pytest.raises(ApiRefused):
        await api.replace(f"{secrets}/a", made | {"type": "Opaque"})
    await api.replace(f"{secrets}/a", made | {"data": {"content": b64encode(bytes(921_600)).decode()}})
    with pytest.raises(ApiRefused):
        await api.create(secrets, a_secret("b", key="x" * 1_100_000))


async def case_a_status_is_apart(api: Api, namespace: str) -> None:
    """It changes no generation, a spec's change leaves it; null removes; an old version is refused, a UID not read."""
    path = path_of(GROUP, KIND, namespace, "a")
    made = await api.create(path_of(GROUP, KIND, namespace), a_subscription("a") | {"status": {"endpoint": "ignored"}})
    assert "status" not in made
    assert made["metadata"]["generation"] == 1

    uid = {"metadata": {"uid": made["metadata"]["uid"]}}
    one = await api.merge(f"{path}/status", uid | {"status": {"endpoint": "e", "observedGeneration": 1}, "spec": {}})
    two = await api.merge(f"{path}/status", uid | {"status": {"endpoint": None}})
    three = await api.replace(path, two | {"spec": two["spec"] | {"suspend": True}, "status": {"endpoint": "ignored"}})

    assert (one["status"], one["metadata"]["generation"]) == ({"endpoint": "e", "observedGeneration": 1}, 1)
    assert two["status"] == three["status"] == {"observedGeneration": 1}
    assert (three["metadata"]["generation"], three["spec"]["suspend"]) == (2, True)
    old = {"resourceVersion": two["metadata"]["resourceVersion"]}
    with pytest.raises(Conflict):
        await api.merge(f"{path}/status", {"metadata": old, "status": {"endpoint": "e"}})
    await api.merge(f"{path}/status", {"metadata": {"uid": "another"}, "status": {"endpoint": "e"}})
    found = await api.list(path_of(GROUP, KIND, namespace), fieldSelector="metadata.name=a")
    assert [one["status"]["endpoint"] for one in found] == ["e"]
    annotated = await api.merge(path, {"metadata": {"annotations": {"x": "y"}}})
    assert annotated["metadata"]["generation"] == 2


async def case_lists_come_in_pages(api: Api, namespace: str) -> None:
    """All of one moment; by label, and without Secrets of a type."""
    secrets = path_of("v1", "secrets", namespace)
    for number in range(5):
        await api.create(secrets, a_secret(f"s{number}", labels={"odd": str(number % 2)}))
    await api.create(secrets, a_secret("helm") | {"type": "helm.sh/release.v1"})
    page = await api.get(secrets, limit="2", fieldSelector="type!=helm.sh/release.v1")
    await delete(api, f"{secrets}/s4")

    rest = await api.get(secrets, limit="20", **{"continue": page["metadata"]["continue"]})

    names = [one["metadata"]["name"] for one in (*page["items"], *rest["items"])]
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    odd = await api.list(secrets, labelSelector="odd=1")
    assert [one["metadata"]["name"] for one in odd] == ["s1", "s3"]


async def case_metadata_alone(api: Api, namespace: str) -> None:
    """Without the content."""
    await api.create(path_of("v1", "secrets", namespace), a_secret("a", key="value"))

    found = await api.metadata(path_of("v1", "secrets", namespace, "a"))

    assert found["kind"] == "PartialObjectMetadata"
    assert found["metadata"]["name"] == "a"
    assert "data" not in found


async def case_discovery(api: Api, namespace: str) -> None:
    """Both kinds, with their status."""
    found = {one["name"]: one["namespaced"] for one in (await api.get(f"/apis/{GROUP}"))["resources"]}

    assert {KIND, f"{KIND}/status", "webhooksources", "webhooksources/status"} <= found.keys()
    assert found[KIND]
    with pytest.raises(ApiRefused, match="404"):
        await api.get("/apis/hookcast.dev/v9")
    assert namespace


@asynccontextmanager
async def watching(api: Api, path: str, **query: str) -> AsyncIterator[AsyncIterator[Raw]]:
    """A watch's events."""
    query |= {"watch": "true", "timeoutSeconds": "20", "allowWatchBookmarks": "true"}
    assert api._session is not None
    timeout = aiohttp.ClientTimeout(total=30)
    async with api._session.get(api._url(path), params=query, timeout=timeout) as response:

        async def events() -> AsyncIterator[Raw]:
            async for line in response.content:
                event: Raw = json.loads(line)
                if event["type"] != "BOOKMARK":
                    yield event

        yield events()


async def take(events: AsyncIterator[Raw], count: int) -> list[tuple[str, str]]:
    """Type and name of the next events."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            event = await anext(events)
            found.append((event["type"], event["object"]["metadata"]["name"]))
    return found


async def case_a_watch_goes_on_from_a_version(api: Api, namespace: str) -> None:
    """Everything since, in order, each with a version that rises; a deletion has its own."""
    secrets = path_of("v1", "secrets", namespace)
    await api.create(secrets, a_secret("before"))
    since = (await api.get(secrets))["metadata"]["resourceVersion"]
    made = await api.create(secrets, a_secret("a"))
    await api.replace(f"{secrets}/a", made | {"data": {"key": "Mg=="}})

    async with watching(api, secrets, resourceVersion=since) as events:
        found = await take(events, 2)
        await delete(api, f"{secrets}/a")
        last = await anext(events)

    assert found == [("ADDED", "a"), ("MODIFIED", "a")]
    assert last["type"] == "DELETED"
    assert int(last["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"]) + 1


async def case_a_watch_without_a_version_begins_with_what_is(api: Api, namespace: str) -> None:
    """As if it was just made."""
    secrets = path_of("v1", "secrets", namespace)
    await api.create(secrets, a_secret("a"))

    async with watching(api, secrets) as events:
        assert await take(events, 1) == [("ADDED", "a")]


async def case_a_label_that_goes_is_a_deletion(api: Api, namespace: str) -> None:
    """For a watch that selects by it; and one that comes is new."""
    secrets = path_of("v1", "secrets", namespace)
    since = (await api.get(secrets))["metadata"]["resourceVersion"]
    async with watching(api, secrets, resourceVersion=since, labelSelector="allow=true") as events:
        made = await api.create(secrets, a_secret("a", labels={"allow": "true"}))
        await api.create(secrets, a_secret("b"))
        made["metadata"]["labels"] = {}
        made = await api.replace(f"{secrets}/a", made)
        made["metadata"]["labels"] = {"allow": "true"}
        await api.replace(f"{secrets}/a", made)

        assert await take(events, 3) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]


async def case_a_watch_ends_in_its_time(api: Api, namespace: str) -> None:
    """By the server, without an error."""
    async with asyncio.timeout(20):
        async for _ in api.hints(path_of("v1", "secrets", namespace), 1):
            pass


async def case_what_is_owned_goes_with_its_owner(api: Api, namespace: str) -> None:
    """Soon after."""
    secrets, path = path_of("v1", "secrets", namespace), path_of(GROUP, KIND, namespace, "a")
    made = await api.create(path_of(GROUP, KIND, namespace), a_subscription("a"))
    owner = {"apiVersion": GROUP, "kind": "WebhookSubscription", "name": "a", "uid": made["metadata"]["uid"]}
    owned = a_secret("a")
    owned["metadata"]["ownerReferences"] = [owner]
    await api.create(secrets, owned)

    await delete(api, path)

    async def is_gone() -> bool:
        return not await api.list(secrets, labelSelector="", fieldSelector="metadata.name=a")

    await eventually(is_gone, 60)


Case = Callable[[Api, str], Awaitable[None]]
CASES: list[Case] = [case for name, case in list(globals().items()) if name.startswith("case_")]
