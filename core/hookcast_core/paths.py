"""Which webhook source receives at a path that several want. Pure; the operator and the app decide by it alike.

Whoever has a path keeps it, and else the oldest gets it. A source that is refused the path that it wants keeps the one
that it had, so that no object takes away what another one has in force.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A source wants to receive at a path."""

    uid: str
    path: str


def share(claims: Sequence[Claim], in_force: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Whose each path is (UID by path), and the paths that were wanted in vain (by UID).

    `claims` come in the order in which free paths are given, one for each UID; `in_force` are the paths of before by
    UID. Each round refuses somebody for good, so that there are at most as many as claims.
    """
    late: dict[str, str] = {}
    claimed = {claim.uid: claim.path for claim in claims}
    while True:
        owners: dict[str, str] = {}
        for uid in sorted(claimed, key=lambda uid: in_force.get(uid) != claimed[uid]):
            owners.setdefault(claimed[uid], uid)
        refused = [uid for uid, path in claimed.items() if owners[path] != uid]
        if not refused:
            return owners, late
        for uid in refused:
            wanted, before = claimed.pop(uid), in_force.get(uid)
            late.setdefault(uid, wanted)
            if before is not None and before != wanted:
                claimed[uid] = before
