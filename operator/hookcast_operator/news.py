"""What of a changed status is worth an Event (core/v1): what a user can act on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from hookcast_operator.conditions import condition
from hookcast_operator.objects import Identity

COMPONENT = "hookcast-operator"
_PASSING = frozenset({"Pending", "PartiallyProgrammed", "Suspended", "NoDeliveriesYet"})
"""Reasons that pass by themselves, or that the user wrote."""
API_VERSION = "hookcast.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class News:
    """One Event. `since` tells it from the same news of another time."""

    about: Identity
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    since: str

    @property
    def name(self) -> str:
        """The same for the same news, so that telling it again makes no second Event."""
        parts = (self.about.uid, str(self.about.generation), self.type, self.reason, self.message, self.since)
        return f"{self.about.name[:200]}.{sha256('|'.join(parts).encode()).hexdigest()[:16]}"

    def body(self, now: str, instance: str) -> dict[str, Any]:
        """The Event as the API server takes it."""
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": self.about.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": self.about.kind,
                "namespace": self.about.namespace,
                "name": self.about.name,
                "uid": self.about.uid,
            },
            "type": self.type,
            "reason": self.reason,
            "message": self.message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": instance,
            "action": "Reconcile",
        }


def news_of(about: Identity, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[News]:
    """What to tell of a status that changed from `before` to `after`."""
    return [
        News(about, *found)
        for found in (_ready(condition(before, "Ready"), condition(after, "Ready")), _delivering(before, after))
        if found is not None
    ]


Told = tuple[Literal["Normal", "Warning"], str, str, str]


def _ready(before: Mapping[str, Any], after: Mapping[str, Any]) -> Told | None:
    is_ready = after.get("status") == "True"
    said = ("status", "observedGeneration")
    if is_ready and [before.get(one) for one in said] != [after.get(one) for one in said]:
        return "Normal", "Programmed", "in force in every ready pod of the dispatcher", after["lastTransitionTime"]
    return None if is_ready else _warning(before, after)


def _delivering(before: Mapping[str, Any], after: Mapping[str, Any]) -> Told | None:
    now = condition(after, "Delivering")
    return _warning(condition(before, "Delivering"), now) if now.get("status") == "False" else None


def _warning(before: Mapping[str, Any], after: Mapping[str, Any]) -> Told | None:
    told = (after.get("reason"), after.get("message"))
    if not after or after["reason"] in _PASSING or (before.get("reason"), before.get("message")) == told:
        return None
    return "Warning", after["reason"], after["message"], after["lastTransitionTime"]
