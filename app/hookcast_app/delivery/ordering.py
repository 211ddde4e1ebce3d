"""FIFO: of each ordering key one delivery is under way, and the others wait behind it. Pure.

A delivery without an ordering key has the key of all those without. References wait here, not bodies.
"""

from collections import deque

from hookcast_app.references import order_of

Waiting = tuple[bytes, str]
"""A delivery in its lane's stream: (stream id, reference)."""


class Order:
    """Lives as long as its lane is leased; it is made anew from the stream, whose order is the order."""

    def __init__(self) -> None:
        self._behind: dict[str, deque[Waiting]] = {}
        self.behind = 0
        """How many deliveries wait behind another."""

    def admit(self, waiting: Waiting) -> bool:
        """Whether a delivery may go now; else it waits until `ended` gives it back."""
        key = order_of(waiting[1])
        if key not in self._behind:
            self._behind[key] = deque()
            return True
        self._behind[key].append(waiting)
        self.behind += 1
        return False

    def ended(self, reference: str) -> Waiting | None:
        """The delivery that may go now that this one has ended, whichever way it did."""
        key = order_of(reference)
        behind = self._behind.get(key)
        if behind:
            self.behind -= 1
            return behind.popleft()
        self._behind.pop(key, None)
        return None
