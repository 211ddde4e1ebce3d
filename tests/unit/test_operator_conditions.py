"""The status that follows from what was judged, from the pods, and from deliveries."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_operator.compile import Judgement, Refusal
from hookcast_operator.conditions import Facts, condition, merge_patch, status_of
from hookcast_operator.objects import Identity
from hookcast_operator.pods import Pod, PodState, Rejection
from hookcast_operator.wellbeing import Report

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
ONE = Identity("WebhookSubscription", "u", 2, "shop", "orders", "2026-01-01T00:00:00Z")
GOOD = Judgement(ONE, None, None, b"line", 2, endpoint="shop.example")
BAD = Refusal("InvalidFilter", "spec.events.filter: mend it")


def pod(name: str = "p", sequence: int = 5, **more: Any) -> PodState:
    where = {"ready": more.pop("ready", True), "terminating": more.pop("terminating", False)}
    more = {"settling": False, **more}
    return PodState(Pod(f"uid-{name}", name, "10.0.0.1", 9090, **where), 0.0, sequence, **more)


def facts(judgement: Judgement = GOOD, *pods: PodState, **more: Any) -> Facts:
    values: dict[str, Any] = {"line_sequence": 5, "report": None, "configuration_sequence": 5, **more}
    return Facts(judgement=judgement, pods=pods or (pod(),), **values)


def shown(found: Facts, before: dict[str, Any] | None = None, now: datetime = NOW) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    status = status_of(found, before or {}, now)
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def text(found: Facts, name: str, before: dict[str, Any] | None = None) -> str:
    message: str = condition(status_of(found, before or {}, NOW), name)["message"]
    return message


def test_all_is_well() -> None:
    """Accepted, resolved, programmed, and ready, with what is shown besides."""
    report = Report("u", "Delivering", None, 1_767_225_600_000, "Delivered", None)

    status = status_of(facts(report=report), {}, NOW)

    assert {one["type"]: one["status"] for one in status["conditions"]} == dict.fromkeys(
        ("Accepted", "ResolvedRefs", "Programmed", "Delivering", "Ready"), "True"
    )
    assert all(one["observedGeneration"] == 2 for one in status["conditions"])
    assert (status["observedGeneration"], status["configurationSequence"], status["endpoint"]) == (2, 5, "shop.example")
    assert status["lastDelivery"] == {"time": "2026-01-01T00:00:00Z", "outcome": "Delivered"}


def test_nothing_changed_is_nothing_to_write() -> None:
    """A minute later the status is the same, times and all."""
    status = status_of(facts(), {}, NOW)

    assert merge_patch(status, status_of(facts(), status, LATER)) == {}


def test_a_transition_has_its_time() -> None:
    """A condition whose status stays keeps its own, whatever its reason says now."""
    before = status_of(facts(replace(GOOD, accepted=BAD, line=None, carries=None)), {}, NOW)
    other = Refusal("InvalidURL", "spec.endpoint.url: mend it")

    after = status_of(facts(replace(GOOD, accepted=other, line=None, carries=None)), before, LATER)
    good = status_of(facts(), before, LATER)

    assert condition(after, "Accepted")["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert condition(after, "Accepted")["reason"] == "InvalidURL"
    assert condition(good, "Accepted")["lastTransitionTime"] == "2026-01-01T00:01:00Z"


def test_a_damaged_status_is_written_anew() -> None:
    """Without times, or with conditions that are none of ours."""
    before = {"conditions": [{"type": "Ready", "status": "True"}, {"x": 1}], "mine": 1}

    status = status_of(facts(), before, NOW)

    assert condition(status, "Ready")["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert merge_patch(before, status)["mine"] is None


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (replace(GOOD, accepted=BAD, line=None, carries=None), ("False", "Unknown", "False", "InvalidFilter")),
        (
            replace(GOOD, resolved=Refusal("SecretNotFound", "m"), carries=1),
            ("True", "False", "False", "SecretNotFound"),
        ),
        (replace(GOOD, suspended=True), ("True", "True", "True", "Suspended")),
        (GOOD, ("True", "True", "True", "Ready")),
    ],
)
def test_ready_says_the_first_that_is_not(judgement: Judgement, expected: tuple[str, str, str, str]) -> None:
    """With its reason and message."""
    found = shown(facts(judgement))

    assert (*(found[name][0] for name in ("Accepted", "ResolvedRefs", "Programmed")), found["Ready"][1]) == expected
    if judgement.accepted:
        assert text(facts(judgement), "Ready") == BAD.message


def test_what_stays_in_force_is_said() -> None:
    """While the newest generation does not hold."""
    kept = replace(GOOD, accepted=BAD, carries=1)

    assert "generation 1 stays in force" in text(facts(kept), "Programmed")
    assert "stays" not in text(facts(replace(kept, line=None, carries=None)), "Programmed")
    assert "being published" in text(facts(GOOD, line_sequence=None), "Programmed")


BEHIND = pod("behind", 4)
UNREACHABLE = pod("unreachable", 0, problem="no route")


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([pod()], ("True", "Programmed")),
        ([pod(), pod("q", 9)], ("True", "Programmed")),
        ([BEHIND], ("False", "Pending")),
        ([pod(), BEHIND], ("False", "PartiallyProgrammed")),
        ([UNREACHABLE], ("False", "DispatcherUnreachable")),
        ([pod(), UNREACHABLE], ("False", "PartiallyProgrammed")),
        ([pod("q", 4, ready=False)], ("False", "Pending")),
        ([pod(), pod("q", 4, ready=False)], ("True", "Programmed")),
        ([pod(), pod("q", 4, terminating=True)], ("True", "Programmed")),
        ([pod("q", 4, terminating=True)], ("False", "Pending")),
        ([pod("q", 0, settling=True)], ("False", "Pending")),
    ],
)
def test_programmed_by_what_ready_pods_have(pods: list[PodState], expected: tuple[str, str]) -> None:
    """A pod that is not ready, or ends, need not have it."""
    assert shown(facts(GOOD, *pods))["Programmed"] == expected


def test_an_unreachable_pod_is_named_with_its_problem() -> None:
    """So that its user knows whom to look at."""
    assert text(facts(GOOD, UNREACHABLE), "Programmed") == "pod unreachable: no route"
    assert text(facts(GOOD, pod(), UNREACHABLE), "Programmed") == "1 of 2 ready pods have it"


def test_with_no_ready_pod_true_stays_true() -> None:
    """All pods restart at once: nobody is told that the configuration is not in force. Of a new generation it is."""
    before = status_of(facts(), {}, NOW)
    none = pod(ready=False)

    assert shown(facts(GOOD, none), before)["Programmed"] == ("True", "Programmed")
    newer = replace(GOOD, identity=replace(ONE, generation=3), carries=3)
    assert shown(facts(newer, none), before)["Programmed"] == ("False", "Pending")
    assert shown(facts(GOOD, none))["Programmed"] == ("False", "Pending")


def test_a_pod_that_settles_makes_true_no_false() -> None:
    """A new pod appears, ready by its address, and has a moment to take the configuration."""
    before = status_of(facts(), {}, NOW)

    assert shown(facts(GOOD, pod(), pod("new", 0, settling=True)), before)["Programmed"][0] == "True"
    assert shown(facts(GOOD, pod(), pod("new", 0)), before)["Programmed"][0] == "False"


def test_a_rejection_is_told_with_the_pod_s_words() -> None:
    """By a pod that has the line of now; another object's, an older line's, or an ending pod's is no matter."""
    rejected = {"u": Rejection(2, "InvalidSubscription", "unknown: no such field")}

    assert shown(facts(GOOD, pod(), pod("q", rejected=rejected)))["Programmed"] == ("False", "Rejected")
    assert text(facts(GOOD, pod(rejected=rejected)), "Programmed") == (
        "pod p: unknown: no such field (InvalidSubscription)"
    )
    assert shown(facts(GOOD, pod(rejected={"v": rejected["u"]})))["Programmed"][0] == "True"
    assert shown(facts(GOOD, pod(sequence=4, rejected=rejected)))["Programmed"] == ("False", "Pending")
    assert shown(facts(GOOD, pod(), pod("q", terminating=True, rejected=rejected)))["Programmed"][0] == "True"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (None, ("Unknown", "NoDeliveriesYet")),
        (Report("u", "Delivering", None, 0, None, None), ("Unknown", "NoDeliveriesYet")),
        (Report("u", "Delivering", None, 1, "Delivered", None), ("True", "Delivering")),
        (Report("u", "Failing", None, 1, "Failed", "BadStatus"), ("False", "Failing")),
        (Report("u", "CircuitOpen", None, 1, "Failed", "ConnectFailed"), ("False", "CircuitOpen")),
        (Report("u", "EgressDenied", None, 1, "Failed", "EgressDenied"), ("False", "EgressDenied")),
        (Report("u", "Disabled", "Gone", 1, "Failed", "Gone"), ("False", "Disabled")),
        (Report("u", "Disabled", None, 0, None, None), ("False", "Disabled")),
    ],
)
def test_delivering_by_what_pods_report(report: Report | None, expected: tuple[str, str]) -> None:
    """And that is no part of being ready."""
    found = shown(facts(report=report))

    assert found["Delivering"] == expected
    assert found["Ready"][0] == "True"


def test_a_disabled_one_says_how_to_enable_it() -> None:
    """Also when it is suspended, which alone would say so."""
    disabled = Report("u", "Disabled", "Gone", 1, "Failed", "Gone")
    suspended = replace(GOOD, suspended=True)

    assert "hookcast.dev/enable" in text(facts(suspended, report=disabled), "Delivering")
    assert "(Gone)" in text(facts(report=disabled), "Delivering")
    assert shown(facts(suspended))["Delivering"] == ("False", "Suspended")


def test_what_was_said_of_deliveries_stays_until_something_else_is() -> None:
    """After the operator's restart no pod has reported yet; one that was suspended begins anew."""
    failing = status_of(facts(report=Report("u", "Failing", None, 1, "Failed", "BadStatus")), {}, NOW)
    suspended = status_of(facts(replace(GOOD, suspended=True)), {}, NOW)

    assert merge_patch(failing, status_of(facts(), failing, LATER)) == {}
    assert shown(facts(), suspended)["Delivering"] == ("Unknown", "NoDeliveriesYet")


def test_a_source_has_no_deliveries() -> None:
    """It has a path."""
    judgement = Judgement(replace(ONE, kind="WebhookSource"), None, None, b"line", 2, path="github")

    status = status_of(facts(judgement, report=Report("u", "Failing", None, 1, "Failed", None)), {}, NOW)

    assert [one["type"] for one in status["conditions"]] == ["Accepted", "ResolvedRefs", "Programmed", "Ready"]
    assert status["path"] == "github"
    assert "lastDelivery" not in status


def test_the_last_delivery_is_told_when_its_outcome_changes() -> None:
    """Else at most hourly; a pod that knows nothing takes nothing away."""
    at = 1_767_225_600_000

    def last(before: dict[str, Any], seconds: int, outcome: str = "Delivered", reason: str | None = None) -> Any:
        report = Report("u", "Delivering", None, at + seconds * 1_000, outcome, reason)
        return status_of(facts(report=report), before, NOW)["lastDelivery"]

    first = {"lastDelivery": last({}, 0)}
    assert last(first, 3_599) == first["lastDelivery"]
    assert last(first, 3_600)["time"] == "2026-01-01T01:00:00Z"
    assert last(first, 1, "Failed", "BadStatus") == {
        "time": "2026-01-01T00:00:01Z",
        "outcome": "Failed",
        "reason": "BadStatus",
    }
    assert status_of(facts(), first, NOW)["lastDelivery"] == first["lastDelivery"]
    assert last({"lastDelivery": {"outcome": "Delivered", "time": "never"}}, 1)["time"] == "2026-01-01T00:00:01Z"


def test_messages_are_cut() -> None:
    """However long an expression's error is."""
    judgement = replace(GOOD, accepted=Refusal("InvalidFilter", "x" * 10_000))

    assert len(text(facts(judgement), "Ready")) == 1_024


VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
STATUSES = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def merged(value: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    found = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        if part is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), part)
    return found


@given(STATUSES, STATUSES)
def test_a_patch_makes_the_status(before: dict[str, Any], status: dict[str, Any]) -> None:
    """Of whatever was there; the same needs none."""
    patch = merge_patch(before, status)

    assert merged(before, patch) == status
    assert (patch == {}) == (before == status)
