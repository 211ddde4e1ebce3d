"""Whether a configuration that arrives takes the place of the one in force. Pure.

Pushes, mounts and retries may come in any order and more than once; the decision depends on what they are, not on when
they come. The app judges by it what it is given, the operator what it has to surpass.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Version:
    """Which configuration it is. `sealed_at` is epoch seconds."""

    origin: str
    sequence: int
    revision: str
    sealed_at: int


class Verdict(Enum):
    """What becomes of a configuration that arrives."""

    NEW = "new"
    SAME = "same"
    STALE = "stale"


def judge(arrived: Version, in_force: Version | None) -> Verdict:
    """Within one origin the higher sequence is in force; of two origins the one that sealed later.

    An origin ends when the operator's own objects were deleted; its sequence begins anew. Two contents with one
    sequence come from a writer that was overtaken: the one sealed later is in force.
    """
    if in_force is None:
        return Verdict.NEW
    if (arrived.origin, arrived.sequence, arrived.revision) == (in_force.origin, in_force.sequence, in_force.revision):
        return Verdict.SAME
    if arrived.origin == in_force.origin and arrived.sequence != in_force.sequence:
        return Verdict.NEW if arrived.sequence > in_force.sequence else Verdict.STALE
    return Verdict.NEW if arrived.sealed_at > in_force.sealed_at else Verdict.STALE
