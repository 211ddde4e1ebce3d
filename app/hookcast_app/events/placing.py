"""Which partition an event goes to, and where an id that its publisher chose was used before.

Events of one ordering key are in one partition, others anywhere; what an id was used for stands in the partition that
the id belongs to, or, for a while after there came to be more partitions, in the one that it belonged to.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import blake2b

from hookcast_app.events.store import REUSED, EventStore, Publication
from hookcast_app.redis import Partition, Partitions
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

    async def place(self, publications: Sequence[Publication]) -> list[Placed]:
        """Where each goes, or what became of it. Raises Unavailable, LayoutChanged."""
        active = self._partitions.active
        if len(self._partitions.all) == 1:
            return [active[0] for _ in publications]
        placed: list[Placed] = [_of_event(active, publication) for publication in publications]
        for epoch in self._remembered():
            await self._ask(publications, placed, epoch)
        await self._ask(publications, placed, None)
        return placed

    def _remembered(self) -> list[int]:
        """The layouts of before by which ids that are still remembered may have been placed."""
        switches = self._partitions.switches(self._partitions.home)
        oldest = self._clock() - self._dedup_ms
        return [epoch for epoch in range(self._partitions.epoch) if epoch >= len(switches) or switches[epoch] > oldest]

    async def _ask(self, publications: Sequence[Publication], placed: list[Placed], epoch: int | None) -> None:
        """Asks where ids belong, or belonged in an earlier layout, unless that is where they go."""
        partitions = self._partitions
        layout = partitions.active if epoch is None else partitions.layout(epoch)
        asked: dict[int, list[int]] = defaultdict(list)
        for at, publication in enumerate(publications):
            where = placed[at]
            home = _of_id(layout, publication)
            if publication.given is not None and not isinstance(where, int) and where != home:
                asked[home.keys.tag].append(at)
        for tag, those in asked.items():
            wanted = [(publications[at], self._tag(placed[at])) for at in those]
            answers = await self._stores[tag].claim(wanted, partitions.epoch if epoch is None else None)
            for at, known in zip(those, answers, strict=True):
                if known:
                    placed[at] = self._found(publications[at], known)

    @staticmethod
    def _tag(placed: Placed) -> int:
        assert isinstance(placed, Partition), "who is asked about is not decided"  # noqa: S101
        return placed.keys.tag

    def _found(self, publication: Publication, known: bytes) -> Placed:
        digest, value = known[:16], known[16:]
        if digest != publication.given:
            return REUSED
        if not value.startswith(b"@"):
            return int(value)
        partition = self._partitions.by_tag(int(value[1:]))
        assert partition is not None, "partitions are never given up"  # noqa: S101
        return partition
