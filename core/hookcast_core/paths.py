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
    UID. This is deferred acceptance (Gale and Shapley, 1962): each claims what it wants and then what it had, each path
    keeps the best claim so far, and in which order they are looked at makes no difference.
    """
    order = {claim.uid: number for number, claim in enumerate(claims)}
    owners: dict[str, str] = {}
    late: dict[str, str] = {}

    def rank(uid: str, path: str) -> tuple[bool, int]:
        return in_force.get(uid) != path, order[uid]

    for claim in claims:
        claiming: Claim | None = claim
        while claiming is not None:
            uid, path = claiming.uid, claiming.path
            owner = owners.get(path)
            if owner is None or rank(uid, path) < rank(owner, path):
                owners[path] = uid
                uid, owner = owner or "", uid
            if not uid:
                break
            late.setdefault(uid, path)
            before = in_force.get(uid)
            claiming = None if before is None or before == path else Claim(uid, before)
    return owners, late
