"""How processes share lanes, and a subscription's lanes what it allows. Pure.

Whoever is first takes a lane; who holds more than its share passes some on, and leaves those to the others for a while.
"""

from typing import NamedTuple

from hookcast_app.delivery.store import Share

LEFT_ALONE_SECONDS = 2.0
"""A lane that was passed on is not taken back before."""


class Part(NamedTuple):
    """What a lane has of its subscription's limits: it is one of so many."""

    number: int = 0
    of: int = 1

    def count(self, limit: int) -> int:
        """Its part of a number, one at the least."""
        return max(limit // self.of + (self.number < limit % self.of), 1)


def surplus(share: Share, held: int) -> int:
    """How many of its lanes a dispatcher should pass on: none for a tenth more than its share."""
    fair = -(-share.lanes // max(share.dispatchers, 1))
    return held - fair if held > fair + fair // 10 else 0


class LeftAlone:
    """Lanes that a dispatcher passed on lately; lives as long as it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, uid: str, now: float) -> None:
        """This lane is for others to take now."""
        self._until = {other: until for other, until in self._until.items() if until > now}
        self._until[uid] = now + LEFT_ALONE_SECONDS

    def has(self, uid: str, now: float) -> bool:
        """Whether a lane is for others to take."""
        return self._until.get(uid, 0.0) > now
