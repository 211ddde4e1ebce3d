"""The status of an object: its conditions, from what was judged, which pods have it, and how its endpoint is doing.

Pure. Follows metav1.Condition: `lastTransitionTime` is when `status` last changed; every condition names the
generation that it was judged by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from hookcast_operator.compile import Judgement, Refusal
from hookcast_operator.pods import PodState
from hookcast_operator.wellbeing import Report

Status = dict[str, Any]
State = Literal["True", "False", "Unknown"]
HOUR_SECONDS = 3_600
MAX_MESSAGE = 1_024


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times."""

    status: State
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a status follows from. `line_sequence` is that of the configuration that first carried the line of now."""

    judgement: Judgement
    line_sequence: int | None
    pods: Iterable[PodState]
    report: Report | None
    configuration_sequence: int | None


def status_of(facts: Facts, before: Mapping[str, Any], now: datetime) -> Status:
    """The whole status, or what of it may be written: the same as `before` where nothing changed."""
    judgement = facts.judgement
    generation = judgement.identity.generation
    is_subscription = judgement.identity.kind == "WebhookSubscription"
    accepted = _refused(judgement.accepted) or Verdict("True", "Accepted", "the spec is valid and allowed")
    resolved = _resolved(judgement)
    programmed = _programmed(facts, before)
    verdicts = {"Accepted": accepted, "ResolvedRefs": resolved, "Programmed": programmed}
    delivering = _delivering(judgement, facts.report, condition(before, "Delivering")) if is_subscription else None
    ready = _ready(verdicts, judgement)
    verdicts |= ({"Delivering": delivering} if delivering else {}) | {"Ready": ready}
    status: Status = {
        "observedGeneration": generation,
        "conditions": _conditions(verdicts, generation, before.get("conditions") or (), now),
    }
    extra = {
        "configurationSequence": facts.configuration_sequence,
        "endpoint": judgement.endpoint,
        "path": judgement.path,
        "signingSecret": {"name": judgement.signing_secret} if judgement.signing_secret else None,
        "lastDelivery": _last_delivery(facts.report, before.get("lastDelivery")) if is_subscription else None,
    }
    return status | {name: value for name, value in extra.items() if value is not None}


def merge_patch(before: Mapping[str, Any], status: Status) -> Status:
    """What turns `before` into `status` by a merge patch (RFC 7396): null removes."""
    patch: Status = dict.fromkeys(before.keys() - status.keys())
    for name, value in status.items():
        known = before.get(name)
        if value != known:
            patch[name] = merge_patch(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return patch


def condition(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One condition of a status, or an empty mapping."""
    return next((one for one in status.get("conditions") or () if one.get("type") == name), {})


def _refused(refusal: Refusal | None) -> Verdict | None:
    return None if refusal is None else Verdict("False", refusal.reason, refusal.message)


def _resolved(judgement: Judgement) -> Verdict:
    if judgement.accepted is not None:
        return Verdict("Unknown", "Pending", "the spec has to be accepted first")
    return _refused(judgement.resolved) or Verdict("True", "ResolvedRefs", "every Secret and key was found")


def _programmed(facts: Facts, before: Mapping[str, Any]) -> Verdict:
    judgement = facts.judgement
    if not judgement.holds or facts.line_sequence is None:
        in_force = f"; generation {judgement.carries} stays in force" if judgement.carries is not None else ""
        waits = "the configuration with it is being published" if judgement.holds else "this generation does not hold"
        return Verdict("False", "Pending", waits + in_force)
    counting = [state for state in facts.pods if state.pod.counts]
    rejected = [
        (state.pod.name, rejection)
        for state in counting
        if (rejection := state.rejected.get(judgement.identity.uid)) and state.sequence >= facts.line_sequence
    ]
    if rejected:
        pod, rejection = rejected[0]
        return Verdict("False", "Rejected", f"pod {pod}: {rejection.message} ({rejection.reason})")
    return _taken(counting, facts.line_sequence, judgement, before)


def _taken(counting: list[PodState], sequence: int, judgement: Judgement, before: Mapping[str, Any]) -> Verdict:
    known = condition(before, "Programmed")
    was_true = known.get("status") == "True" and known.get("observedGeneration") == judgement.identity.generation
    missing = [state for state in counting if state.sequence < sequence and not (was_true and state.settling)]
    if not missing and (counting or was_true):
        return Verdict("True", "Programmed", "every ready pod of the dispatcher has it")
    if not counting:
        return Verdict("False", "Pending", "no pod of the dispatcher is ready yet")
    if len(missing) < len(counting):
        return Verdict(
            "False", "PartiallyProgrammed", f"{len(counting) - len(missing)} of {len(counting)} ready pods have it"
        )
    problem = next((f"pod {state.pod.name}: {state.problem}" for state in missing if state.problem), None)
    if problem:
        return Verdict("False", "DispatcherUnreachable", problem)
    return Verdict("False", "Pending", "the pods of the dispatcher are being told")


def _delivering(judgement: Judgement, report: Report | None, before: Mapping[str, Any]) -> Verdict:
    if report is not None and report.state == "Disabled":
        why = f" ({report.reason})" if report.reason else ""
        fix = 'change its spec, or annotate it with hookcast.dev/enable="<time>"'
        return Verdict("False", "Disabled", f"deliveries are disabled{why}; to enable them {fix}")
    if judgement.suspended:
        return Verdict("False", "Suspended", "deliveries wait while spec.suspend is true")
    if report is None and before.get("reason") not in {None, "Suspended"}:
        # Nobody has said anything yet since the operator started: what was said before stays.
        return Verdict(before["status"], before["reason"], before.get("message", ""))
    return _endpoint(report)


def _endpoint(report: Report | None) -> Verdict:
    if report is not None and report.state == "NoSigningKey":
        return Verdict("False", "NoSigningKey", "every signing key has expired; add one to spec.signing.keys")
    if report is None or report.outcome is None:
        return Verdict("Unknown", "NoDeliveriesYet", "no event was delivered yet")
    if report.state == "Delivering":
        return Verdict("True", "Delivering", "the endpoint takes deliveries")
    return Verdict("False", report.state, f"the last attempts failed: {report.outcome_reason or report.state}")


def _ready(verdicts: Mapping[str, Verdict], judgement: Judgement) -> Verdict:
    for verdict in verdicts.values():
        if verdict.status != "True":
            return Verdict("False", verdict.reason, verdict.message)
    if judgement.suspended:
        return Verdict("False", "Suspended", "deliveries wait while spec.suspend is true")
    return Verdict("True", "Ready", "in force in every ready pod")


def _conditions(
    verdicts: Mapping[str, Verdict], generation: int, before: Iterable[Mapping[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    known = {one.get("type"): one for one in before}
    conditions = []
    for name, verdict in verdicts.items():
        old = known.get(name, {})
        is_same = old.get("status") == verdict.status and "lastTransitionTime" in old
        conditions.append(
            {
                "type": name,
                "status": verdict.status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if is_same else _time(now),
                "reason": verdict.reason,
                "message": verdict.message[:MAX_MESSAGE],
            }
        )
    return conditions


def _last_delivery(report: Report | None, before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The last attempt; one with the same outcome takes the place of one that is more than an hour older."""
    if report is None or report.outcome is None:
        return before
    at = datetime.fromtimestamp(report.at // 1000, UTC)
    found = {"time": _time(at), "outcome": report.outcome}
    if report.outcome_reason:
        found["reason"] = report.outcome_reason
    if before is None or (before.get("outcome"), before.get("reason")) != (report.outcome, report.outcome_reason):
        return found
    try:
        age = (at - datetime.fromisoformat(before["time"])).total_seconds()
    except (KeyError, ValueError):
        return found
    return found if age >= HOUR_SECONDS else before


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
