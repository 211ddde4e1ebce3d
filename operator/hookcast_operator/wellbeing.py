"""How endpoints are doing, put together from what each pod says. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """One pod's word on one subscription. `at` is the last attempt's time in epoch ms, 0 where none is known."""

    uid: str
    state: str
    reason: str | None
    at: int
    outcome: str | None
    outcome_reason: str | None


def report_of(found: Mapping[str, Any]) -> Report:
    """As the app tells it; KeyError where a field is missing."""
    last = found["last"] or {}
    return Report(
        uid=found["uid"],
        state=found["state"],
        reason=found["reason"],
        at=last.get("at", 0),
        outcome=last.get("outcome"),
        outcome_reason=last.get("reason"),
    )


class Wellbeing:
    """The newest word on every subscription. Several pods may make its deliveries, one after the other."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str | None, Report]] = {}

    def get(self, uid: str) -> Report | None:
        """What is known of one."""
        known = self._known.get(uid)
        return known[1] if known else None

    def take(self, pod: str, reports: Iterable[Report]) -> Collection[str]:
        """Takes a pod's reports; gives the UIDs of those on which they are the newest word."""
        changed = []
        for report in reports:
            known = self._known.get(report.uid)
            if known is None or known[0] in {pod, None} or report.state == "Disabled" or report.at > known[1].at:
                self._known[report.uid] = (pod, report)
                changed.append(report.uid)
        return changed

    def forget_pod(self, pod: str) -> None:
        """A pod is gone: any other's word takes the place of its."""
        self._known = {uid: (None if of == pod else of, report) for uid, (of, report) in self._known.items()}

    def keep(self, uids: Collection[str]) -> None:
        """Forgets every other subscription."""
        self._known = {uid: known for uid, known in self._known.items() if uid in uids}
