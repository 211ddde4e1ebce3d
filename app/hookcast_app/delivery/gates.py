"""How far lanes in order may go after there came to be more partitions.

Events of one ordering key go to another partition then, and must not overtake those that wait where they went before:
what was published since waits until all that was published until then has ended, in whichever partition it is.
"""

from typing import cast

from hookcast_app.redis import Partition, Partitions, translated


class Gates:
    """Of one partition; lives as long as its dispatcher. `passed` is shared by all partitions of a process."""

    def __init__(self, partitions: Partitions, partition: Partition, passed: dict[str, int]) -> None:
        self._partitions = partitions
        self._partition = partition
        self._passed = passed

    def until(self, uid: str) -> int | None:
        """The time (epoch ms by this partition's Redis) from which on a lane's deliveries must wait, or None."""
        switches = self._partitions.switches(self._partition)
        passed = self._passed.get(uid, 0)
        return switches[passed] if passed < len(switches) else None

    async def look(self, uid: str) -> None:
        """Learns how many changes a subscription's lanes have all come past. Raises Unavailable."""
        while (passed := self._passed.get(uid, 0)) < self._partitions.epoch:
            for partition in self._partitions.all:
                if await self._has_older(partition, uid, passed):
                    return
            self._passed[uid] = passed + 1

    async def _has_older(self, partition: Partition, uid: str, passed: int) -> bool:
        with translated("look at a lane"):
            found = await partition.redis.xrange(partition.keys.lane(uid, "waiting"), count=1)
        first = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return bool(first) and int(first[0][0].partition(b"-")[0]) < self._partitions.switches(partition)[passed]
