"""How dispatchers share lanes: each holds as many as the others, about. Pure.

Whoever is first takes a lane; who holds more than its share passes some on, and leaves those to the others for a while.
"""

from collections.abc import Iterable

from hookcast_app.delivery.lane import Lane
from hookcast_app.delivery.store import Share

LEFT_ALONE_SECONDS = 2.0
"""A lane that was passed on is not taken back before."""


def surplus(share: Share, held: int) -> int:
    """How many of its lanes a dispatcher should pass on: none for a tenth more than its share, or one."""
    fair = -(-share.lanes // max(share.dispatchers, 1))
    return held - fair if held > fair + max(fair // 10, 1) else 0


class Sharing:
    """What one dispatcher passed on lately; lives as long as it."""

    def __init__(self) -> None:
        self._left_alone: dict[str, float] = {}

    def to_pass_on(self, lanes: Iterable[Lane], share: Share, now: float) -> list[Lane]:
        """The lanes to be given back so that others take them: those with the least under way."""
        self._left_alone = {uid: until for uid, until in self._left_alone.items() if until > now}
        held = [lane for lane in lanes if lane.taken and not lane.leaving]
        chosen = sorted(held, key=lambda lane: lane.in_flight)[: surplus(share, len(held))]
        self._left_alone.update((lane.uid, now + LEFT_ALONE_SECONDS) for lane in chosen)
        return chosen

    def is_left_alone(self, uid: str, now: float) -> bool:
        """Whether a lane is for others to take."""
        return self._left_alone.get(uid, 0.0) > now
