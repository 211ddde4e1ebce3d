"""Whose a client id is, in Redis: each process says every few seconds which are held here, and by whom."""

from collections.abc import Callable

from hookcast_app.realtime.heartbeat import BEAT_SECONDS, EXPIRY_SECONDS, Entry, Heartbeat, Said
from hookcast_app.realtime.shards import Shard, Shards
from hookcast_app.redis import Script, translated

_claim = Script("hookcast_app.realtime", "claim.lua")


class Claims:
    """Lives as long as the app; `run` is its one task.

    An owner may hold a client id by several connections, in several processes; it is free when all of them have gone.
    """

    def __init__(self, shards: Shards, beat_seconds: float = BEAT_SECONDS) -> None:
        self._shards = shards
        self._on_lost: dict[Entry, Callable[[], None]] = {}
        self._beat = Heartbeat("claims", shards, _say, beat_seconds=beat_seconds, on_lost=self._lost)
        self.run = self._beat.run

    async def claim(self, client: str, owner: str, connection: str, on_lost: Callable[[], None]) -> bool:
        """Holds a client id for `owner`, unless it is another one's; returns whether it is held.

        `on_lost` is called if it is found to be another one's later, after Redis had forgotten. `release` ends it, also
        after this was cancelled or has raised Unavailable.
        """
        holding = client, connection
        self._on_lost[holding] = on_lost
        is_held = await self._beat.enter(holding, owner.encode())
        if not is_held:
            self._beat.here.pop(holding, None)
            self._on_lost.pop(holding, None)
        return is_held

    def release(self, client: str, connection: str) -> None:
        """A connection holds a client id no longer, if it did; Redis hears of it soon."""
        self._on_lost.pop((client, connection), None)
        self._beat.leave((client, connection))

    async def is_held(self, client: str) -> bool:
        """Whether anybody holds a client id, wherever. Raises Unavailable."""
        shard = self._shards.of(client)
        with translated("be asked for a client id"):
            return bool(await shard.redis.exists(shard.key("claim", client)))

    def _lost(self, holding: Entry) -> None:
        if (on_lost := self._on_lost.pop(holding, None)) is not None:
            on_lost()


async def _say(shard: Shard, said: Said) -> list[bool]:
    keys = [key for (client, _), _ in said for key in (shard.key("claim", client), shard.key("holders", client))]
    args: list[str | bytes | int] = [EXPIRY_SECONDS]
    for (_, connection), owner in said:
        args += (owner, connection)
    with translated("be told who holds a client id"):
        answers: list[int] = await _claim(shard.redis, keys, args)
    return [bool(answer) for answer in answers]
