"""The mark in a Redis whose data are being moved to another, or that is the other. `hookcast migrate` sets it.

Every script that writes events or deliveries looks at it first, so that no server, however slow to notice, writes to a
Redis between the moment it is copied and the moment it is left.

                  publishing   leasing lanes   settling   what it is
    (no mark)     yes          yes             yes
    draining      no           no              yes        about to be copied: what is in flight may end
    copying       no           no              no         being copied
    moved         no           no              no         left for good: the copy is whole
    filling       no           no              no         a copy that is not whole
"""

import time
from enum import StrEnum
from typing import NamedTuple, Self, cast

from redis.asyncio import Redis

from hookcast_app.redis.errors import translated
from hookcast_app.redis.keys import Keys
from hookcast_app.redis.scripts import Script

MARK_KEY = Keys().mark

_swap = Script("hookcast_app.redis", "swap.lua")


class Phase(StrEnum):
    """How far a move has come, seen from one of its two sides."""

    DRAINING = "draining"
    COPYING = "copying"
    MOVED = "moved"
    FILLING = "filling"


class Mark(NamedTuple):
    """A mark as it is stored: words, separated by spaces.

    `run` is the one `hookcast migrate` that works on it, `instance` the data's, `since_ms` when it began (epoch),
    `peer` the URL of the other side, without credentials.
    """

    phase: Phase
    run: str
    instance: str
    since_ms: int
    peer: str

    @classmethod
    def read(cls, value: bytes | None) -> Self | None:
        """The mark in a key's value. Raises ValueError if it is none."""
        if value is None:
            return None
        phase, run, instance, since_ms, peer = value.decode().split(" ", 4)
        return cls(Phase(phase), run, instance, int(since_ms), peer)

    def write(self) -> str:
        """The key's value."""
        return " ".join(map(str, self))

    @property
    def since(self) -> str:
        """When it began, for people."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.since_ms / 1000))

    def reason(self) -> str:
        """Why a server cannot work on this Redis, and what to do."""
        if self.phase is Phase.MOVED:
            return f"the data of this Redis were moved to {self.peer} ({self.since}); set HOOKCAST_REDIS_URL to that"
        if self.phase is Phase.FILLING:
            return (
                f"the data of {self.peer} are being moved to this Redis (since {self.since}) and are not all here yet; "
                "if `hookcast migrate` no longer runs, run it again"
            )
        return (
            f"the data of this Redis are being moved to {self.peer} (since {self.since}); "
            "if `hookcast migrate` no longer runs, run it again, or with --abandon to stay here"
        )


async def read_mark(redis: Redis) -> Mark | None:
    """The mark of this Redis, or None. Raises Unavailable."""
    with translated("be looked at"):
        return Mark.read(cast("bytes | None", await redis.get(MARK_KEY)))


async def swap_mark(redis: Redis, before: Mark | None, after: Mark | None) -> bool:
    """Replaces exactly this mark by another, or by none; False if it is not there (any more). Raises Unavailable."""
    with translated("be marked"):
        return await swap(redis, MARK_KEY, before.write() if before else "", after.write() if after else "")


async def swap(redis: Redis, key: str, before: str, after: str) -> bool:
    """Compare and swap of a key's value, "" for none; whether it was swapped. Raises what redis-py raises."""
    return bool(await _swap(redis, [key], [before, after]))
