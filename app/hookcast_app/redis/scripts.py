"""Lua scripts that lie beside the module that uses them: loaded once, called by their hash."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """One script; knows how to call itself again on a Redis that has forgotten it (a restart).

    `before` is Lua with functions that it uses.
    """

    def __init__(self, package: str, name: str, before: bytes = b"") -> None:
        self._text = before + files(package).joinpath(name).read_bytes()
        self._sha: str | None = None

    async def __call__(self, redis: Redis, keys: Sequence[str | bytes], args: Sequence[Any]) -> Any:
        """Runs on `redis`; raises what redis-py raises."""
        if self._sha is None:
            self._sha = await redis.script_load(self._text)
        try:
            return await redis.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            await redis.script_load(self._text)
            return await redis.evalsha(self._sha, len(keys), *keys, *args)
