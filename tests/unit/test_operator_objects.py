"""What is read of the API server's objects, pods and reports."""

import asyncio
from typing import Any

import pytest

from hookcast_core.errors import InvalidInput
from hookcast_operator.bucket import Bucket
from hookcast_operator.objects import custom_object, enabled_at, namespace_object, secret_object
from hookcast_operator.pods import pods_of
from hookcast_operator.wellbeing import Report, Wellbeing, report_of
from tests.support.kinds import metadata, secret, subscription


def test_an_object_is_read() -> None:
    """Its identity, what it says of its dispatcher, and when it was asked to be enabled."""
    raw = subscription("a", meta={"version": 7, "annotations": {"hookcast.dev/enable": "2026-01-01T00:00:00Z"}})

    found = custom_object("WebhookSubscription", raw)

    assert (found.key, found.version, found.dispatcher, found.deleting) == ("uid-shop-a", 7, "hookcast", False)
    assert found.enable == "2026-01-01T00:00:00Z"
    assert str(found.identity) == "WebhookSubscription shop/a"


@pytest.mark.parametrize("spec", [None, [], "text", {}, {"dispatcherRef": None}, {"dispatcherRef": {"name": 3}}])
def test_any_spec_is_read(spec: Any) -> None:
    """It is judged later; what names no dispatcher is the default one's."""
    assert custom_object("WebhookSource", subscription() | {"spec": spec}).dispatcher == "hookcast"


@pytest.mark.parametrize("without", ["uid", "name", "namespace", "resourceVersion", "creationTimestamp"])
def test_what_is_no_object_is_told(without: str) -> None:
    """By errors that whoever reads expects."""
    raw = subscription()
    del raw["metadata"][without]

    with pytest.raises((KeyError, ValueError)):
        custom_object("WebhookSubscription", raw)


def test_a_status_alone_changes_nothing_that_compiles() -> None:
    """Nor do labels; a generation, the annotation and a deletion do."""
    before = custom_object("WebhookSubscription", subscription())

    def after(**meta: Any) -> Any:
        return custom_object("WebhookSubscription", subscription(status={"x": 1}, meta={"version": 2, **meta}))

    assert before.compiles_like(after(labels={"a": "b"}))
    assert not before.compiles_like(after(generation=2))
    assert not before.compiles_like(after(annotations={"hookcast.dev/enable": "now"}))
    assert not before.compiles_like(after(deletionTimestamp="2026-01-01T00:00:00Z"))


def test_a_secret_is_read_and_not_shown() -> None:
    """Bytes, owners and for whom it was made; its repr shows nothing."""
    raw = secret("s", key="hidden", meta={"ownerReferences": [{"uid": "o"}]})

    found = secret_object(raw)

    assert found.data == {"key": b"hidden"}
    assert (found.is_allowed, found.owners, found.key) == (True, frozenset({"o"}), ("shop", "s"))
    assert "hidden" not in repr(found)
    assert secret_object(raw | {"data": None}).data == {}
    assert not secret_object(secret(allowed=False)).is_allowed
    assert found.compiles_like(secret_object(raw | {"metadata": raw["metadata"] | {"resourceVersion": "9"}}))
    assert not found.compiles_like(secret_object(secret("s", key="other")))


def test_a_secret_that_is_handed_over_compiles_otherwise() -> None:
    """The annotation that says for whom it was made decides on its use."""
    before = secret_object(secret("s"))

    assert not before.compiles_like(
        secret_object(secret("s", meta={"annotations": {"hookcast.dev/generated-for": "x"}}))
    )


def test_a_namespace_counts_by_being_there() -> None:
    """Its labels may change as long as the selector selects it."""
    found = namespace_object({"metadata": metadata("shop", version=3)})

    assert (found.key, found.version) == ("shop", 3)
    assert found.compiles_like(namespace_object({"metadata": metadata("shop", version=4)}))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (None, None),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
        ("9999-12-31T23:59:59-05:00", 253_402_318_799_000),
    ],
)
def test_a_time_to_enable_at(text: str | None, at: int | None) -> None:
    """With its zone."""
    assert enabled_at(text) == at


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00", "now", "", "1767225600"])
def test_what_is_no_time_to_enable_at_is_refused(text: str) -> None:
    """It names the annotation, and what to write."""
    with pytest.raises(InvalidInput, match=r"metadata.annotations\[hookcast.dev/enable\]: is no time; write one with"):
        enabled_at(text)


def slice_of(*endpoints: dict[str, Any], port: Any = 9090, name: str = "admin") -> dict[str, Any]:
    return {"ports": [{"name": "other", "port": 1}, {"name": name, "port": port}], "endpoints": list(endpoints)}


def endpoint(name: str, address: str = "10.0.0.1", **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": [address],
        "targetRef": {"name": name, "uid": f"uid-{name}"},
        "conditions": conditions,
    }


def test_pods_are_read_from_slices() -> None:
    """Ready unless it is said that they are not; IPv6 in brackets."""
    slices = [
        slice_of(endpoint("a"), endpoint("b", "fd00::1", ready=False), endpoint("c", ready=True, terminating=True)),
        slice_of({"addresses": ["10.0.0.9"]}, port=9191),
    ]

    pods = pods_of(slices, "admin")

    assert {uid: (pod.base_url, pod.counts) for uid, pod in pods.items()} == {
        "uid-a": ("http://10.0.0.1:9090", True),
        "uid-b": ("http://[fd00::1]:9090", False),
        "uid-c": ("http://10.0.0.1:9090", False),
        "10.0.0.9": ("http://10.0.0.9:9191", True),
    }


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"ports": None, "endpoints": None},
        slice_of(endpoint("a"), name="http"),
        slice_of(endpoint("a"), port=None),
        slice_of({"addresses": []}, {"addresses": None}, {}),
    ],
)
def test_slices_without_our_port_or_an_address_have_no_pods(found: dict[str, Any]) -> None:
    """And break nothing."""
    assert pods_of([found], "admin") == {}


def report(uid: str, at: int, state: str = "Delivering") -> Report:
    return Report(uid, state, None, at, "Delivered", None)


def test_reports_are_read() -> None:
    """With a last attempt and without."""
    raw = {"uid": "u", "state": "Failing", "reason": None, "last": {"at": 5, "outcome": "Failed", "reason": "Gone"}}

    assert report_of(raw) == Report("u", "Failing", None, 5, "Failed", "Gone")
    assert report_of(raw | {"last": None}) == Report("u", "Failing", None, 0, None, None)
    with pytest.raises(KeyError):
        report_of({"uid": "u"})


def test_the_newest_word_of_several_pods_counts() -> None:
    """A pod replaces its own, and another's that is older; disabled is told at once."""
    known = Wellbeing()

    assert known.take("a", [report("u", 5)]) == ["u"]
    assert known.take("b", [report("u", 4)]) == []
    assert known.take("b", [report("u", 6, "Failing")]) == ["u"]
    assert known.take("a", [report("u", 1, "Disabled")]) == ["u"]
    assert known.take("a", [report("u", 0)]) == ["u"]
    assert known.get("u") == report("u", 0)
    assert known.get("v") is None


def test_a_pod_that_went_has_no_last_word() -> None:
    """What it said stays until another says something, however old; removed objects are forgotten."""
    known = Wellbeing()
    known.take("a", [report("u", 5), report("v", 5)])
    known.forget_pod("a")

    assert known.get("u") == report("u", 5)
    assert known.take("b", [report("u", 1)]) == ["u"]
    known.keep({"u"})
    assert known.get("v") is None


def test_a_bucket_lets_a_burst_through_and_then_a_rate() -> None:
    """Takers wait in their order; what is not used does not pile up beyond the burst."""
    now = 0.0
    bucket = Bucket(10, 2, lambda: now)

    assert [bucket.take() for _ in range(4)] == pytest.approx([0, 0, 0.1, 0.2])
    now = 100.0
    assert [bucket.take() for _ in range(3)] == pytest.approx([0, 0, 0.1])


async def test_a_bucket_waits() -> None:
    """Without tokens; with some it does not even yield."""
    bucket = Bucket(1_000, 1)

    async with asyncio.timeout(5):
        await bucket.wait()
        await bucket.wait()
