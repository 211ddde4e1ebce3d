"""Which partition an event goes to, and where an id that its publisher chose was used before.

Events of one ordering key are in one partition, others anywhere; what an id was used for stands in the partition that
the id belongs to, or, for a while after there came to be more partitions, in the one that it belonged to.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from hashlib import blake2b

from hookcast_app.events.store import REUSED, Claim, EventStore, Publication, reserved
from hookcast_app.redis import LayoutChanged, Partition, Partitions
from hookcast_app.references import order_of, ref_of

Placed = Partition | int
"""Where to, or what became of an event without going there: a verdict, as EventStore's."""


def _of_event(layout: Sequence[Partition], publication: Publication) -> Partition:
    """Where events of its ordering key go; what has an order without a key goes to the first one."""
    if key := order_of(publication.reference):
        return layout[int(key, 16) % len(layout)]
    return layout[0] if publication.is_ordered else _of_id(layout, publication)


def _of_id(layout: Sequence[Partition], publication: Publication) -> Partition:
    """Where it stands what an event's id was used for."""
    digest = blake2b(ref_of(publication.reference).encode(), digest_size=8).digest()
    return layout[int.from_bytes(digest) % len(layout)]


class Placing:
    """Lives as long as the app. `stores` has one for each partition, by its hash tag."""

    def __init__(
        self, partitions: Partitions, stores: dict[int, EventStore], dedup_seconds: int, clock: Callable[[], int]
    ) -> None:
        self._partitions = partitions
        self._stores = stores
        self._dedup_ms = dedup_seconds * 1000
        self._clock = clock

    async def place(self, publications: Sequence[Publication], doubtful: Container[int] = ()) -> list[Placed]:
        """Where each goes, or what became of it.

        `doubtful` are those whose ids are reserved for another partition than they were last placed in. Raises
        Unavailable, LayoutChanged.
        """
        active, epoch = self._partitions.active, self._partitions.epoch
        if len(self._partitions.all) == 1:
            return [active[0] for _ in publications]
        placed: list[Placed] = [_of_event(active, publication) for publication in publications]
        for earlier in self._remembered():
            layout = self._partitions.layout(earlier)
            await self._ask(publications, placed, [_of_id(layout, each) for each in publications], None)
        await self._ask(publications, placed, [_of_id(active, each) for each in publications], epoch)
        own = [where if at in doubtful else None for at, where in enumerate(placed)]
        await self._ask(publications, placed, own, epoch, is_own=True)
        return placed

    def _remembered(self) -> list[int]:
        """The layouts of before by which ids that are still remembered may have been placed."""
        switches = self._partitions.switches(self._partitions.home)
        oldest = self._clock() - self._dedup_ms
        return [epoch for epoch in range(self._partitions.epoch) if epoch >= len(switches) or switches[epoch] > oldest]

    async def _ask(
        self,
        publications: Sequence[Publication],
        placed: list[Placed],
        homes: Sequence[Placed | None],
        epoch: int | None,
        *,
        is_own: bool = False,
    ) -> None:
        """Asks in the homes of ids what is known of them, unless that is where they go (or just there: `is_own`).

        With an `epoch` they are reserved there.
        """
        asked: dict[int, list[tuple[int, Claim]]] = defaultdict(list)
        for at, (publication, where, home) in enumerate(zip(publications, placed, homes, strict=True)):
            if publication.given is None or not (isinstance(where, Partition) and isinstance(home, Partition)):
                continue
            if (home == where) is is_own:
                asked[home.keys.tag].append((at, Claim(publication, where.keys.tag)))
        for home_tag, those in asked.items():
            answers = await self._stores[home_tag].claim([claim for _, claim in those], epoch)
            for (at, claim), known in zip(those, answers, strict=True):
                if known:
                    placed[at] = await self._found(claim, known, home_tag, epoch)

    async def _found(self, claim: Claim, known: bytes, home_tag: int, epoch: int | None) -> Placed:
        """What an id that is known means for the event that has it now."""
        partition = self._partitions.by_tag(claim.tag)
        assert partition is not None, "it was placed there"  # noqa: S101
        if (verdict := _verdict(claim, known)) is not None:
            return verdict
        tag = int(known[17:])
        if known == reserved(claim.publication, claim.tag):
            return partition
        if tag not in self._stores:
            raise LayoutChanged
        # It was reserved for another event or partition (an earlier layout or configuration): it counts if that came.
        (there,) = await self._stores[tag].claim([claim], None)
        if there and (verdict := _verdict(claim, there)) is not None:
            return verdict
        if epoch is not None:
            await self._stores[home_tag].claim([claim._replace(expected=known)], epoch)
        return partition


def _verdict(claim: Claim, known: bytes) -> int | None:
    """What became of an event by what is known of its id, or None if that is only reserved."""
    if known[16:17] == b"@":
        return None
    return int(known[16:]) if known[:16] == claim.publication.given else REUSED
