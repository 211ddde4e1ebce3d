"""Whether clients were given all that was published, in order and once, as far as the protocol promised it. Pure.

A client's trail on a channel is followed as a stock client keeps its position: from the offset and epoch of the answer
to a subscription, publication by publication. What a server may not do is written down as a violation, not raised: the
tasks that notice it go on.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Of a publication in its channel."""

    epoch: str
    offset: int


class Ledger:
    """What anybody was told of each publication; lives as long as a run.

    `kept` gives the size of a channel's history. Nothing but newer publications shortens one, unless it is one of
    `shortened`: a refusal to recover must have that reason.
    """

    def __init__(self, *, kept: Callable[[str], int]) -> None:
        self.kept = kept
        self.shortened: set[str] = set()
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._data: dict[str, dict[Place, Any]] = defaultdict(dict)

    def note(self, channel: str, place: Place, data: Any) -> None:
        """Somebody was told that this was published there: the same as everybody else."""
        known = self._data[channel].setdefault(place, data)
        if known != data:
            self.violate(f"{channel} {place}: {data!r} for one, {known!r} for another")

    def violate(self, what: str) -> None:
        """Something that may not be."""
        self.violations.append(what)

    def published(self, channel: str) -> Iterator[tuple[Place, Any]]:
        """What is known of a channel: by epoch, within each in order."""
        yield from sorted(self._data[channel].items())


class Trail:
    """One client's on one channel; `who` is for violations."""

    def __init__(self, ledger: Ledger, who: str, channel: str) -> None:
        self.channel = channel
        self.place: Place | None = None
        """Where the client stands, as it knows."""
        self.is_subscribed = False
        self._ledger = ledger
        self._who = who

    @property
    def since(self) -> dict[str, Any]:
        """What the client asks for when it subscribes."""
        return {} if self.place is None else {"recover": True, **self.place._asdict()}

    def subscribed(self, result: Mapping[str, Any], asked: Place | None) -> None:
        """The client is subscribed, or was told so; it `asked` for what it missed since then."""
        place = Place(result.get("epoch", ""), result.get("offset", 0))
        publications = result.get("publications", [])
        self.is_subscribed = True
        if not (result.get("recoverable") and place.epoch):
            self._violate(f"is not told where it stands: {result}")
        if asked is None:
            self._ledger.counts["subscribed"] += 1
        elif result.get("recovered"):
            self._ledger.counts["recovered"] += 1
            if place != asked:
                self._violate(f"recovers from {place} when it asked for {asked}")
        else:
            self._refused(place, asked)
        if publications and not result.get("recovered"):
            self._violate(f"is given {publications} though it did not recover")
        self.place = place
        for publication in publications:
            self.given(publication)

    def _refused(self, place: Place, asked: Place) -> None:
        self._ledger.counts["not recovered"] += 1
        missed = place.offset - asked.offset
        is_whole = self.channel not in self._ledger.shortened
        if is_whole and place.epoch == asked.epoch and 0 <= missed <= self._ledger.kept(self.channel):
            self._violate(f"is refused the {missed} that it missed since {asked}")

    def given(self, publication: Mapping[str, Any]) -> None:
        """A publication has come; one for a channel that the client is not subscribed to is ignored."""
        if not self.is_subscribed or self.place is None:
            return
        self._ledger.counts["deliveries"] += 1
        offset = publication.get("offset", 0)
        if offset != self.place.offset + 1:
            self._violate(f"is given {offset} after {self.place}")
        self.place = Place(self.place.epoch, offset)
        self._ledger.note(self.channel, self.place, publication["data"])

    def _violate(self, what: str) -> None:
        self._ledger.violate(f"{self._who} on {self.channel} {what}")
