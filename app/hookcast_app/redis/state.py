"""What kind of Redis it is: version, policy, key schema, and whether it is still the one that we knew."""

import asyncio
import re
import secrets
import time
from typing import Any, NamedTuple, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, InvalidResponse, NoPermissionError

from hookcast_app.redis.errors import translated
from hookcast_app.redis.keys import PREFIX, Keys
from hookcast_app.redis.moving import Mark
from hookcast_core.errors import InvalidInput, Reason, Unavailable

SCHEMA = 1
"""The version of our keys' layout; one that changes what an older app reads adds 1 and a migration."""
_HOME = Keys()
ALIVE_SECONDS = 60
MINIMUM = (6, 2)

_log = structlog.get_logger("hookcast.redis")


class ServerState(NamedTuple):
    """A Redis as it was found; `instance` is None where it holds nothing of ours, `policy` where it does not say."""

    version: tuple[int, ...]
    instance: str | None
    policy: str | None
    mark: Mark | None = None


class Seen(NamedTuple):
    """What a look at a Redis found; memory in bytes, `max_memory` 0 where it has no limit or does not say.

    `run_id` is that of its process: another one has started again, or is a replica that was promoted.
    """

    instance: str | None
    policy: str | None
    mark: Mark | None
    used_memory: int
    max_memory: int
    run_id: str | None


async def check_server(redis: Redis, keys: Keys = _HOME) -> ServerState:
    """As `check_fit`; claims it if it holds nothing of ours."""
    state = await check_fit(redis, keys)
    return state._replace(instance=await claim_instance(redis, keys))


async def check_fit(redis: Redis, keys: Keys = _HOME) -> ServerState:
    """Whether this Redis fits: at least 6.2, keys of a layout that we know. Writes nothing.

    Raises InvalidInput (RedisUnfit, field `redis_url`) with the fix, Unavailable if it does not answer now. Its policy
    is not refused but reported: that one can be mended while we run (see `unfit_policy`).
    """
    try:
        with translated("be checked"):
            info: dict[str, Any] = await redis.info()
            version = server_version(info)
            if version < MINIMUM:
                raise _unfit(f"is Redis {_dotted(version)}; Hookcast needs {_dotted(MINIMUM)} or newer, or Valkey")
            await _check_schema(redis, keys)
            await _check_rights(redis, keys)
            instance, mark = cast("list[bytes | None]", await redis.mget(keys.instance, keys.mark))
            policy = info.get("maxmemory_policy")
            return ServerState(version, None if instance is None else _text(instance), policy, Mark.read(mark))
    except (NoPermissionError, Unavailable) as error:
        causes = _causes(error)
        if any(isinstance(cause, NoPermissionError) for cause in causes):
            raise _unfit(f"forbids our user a command, a key or a channel of {PREFIX}* that we need") from error
        if any(isinstance(cause, AuthenticationError) for cause in causes):
            raise _unfit("refuses our user or password") from error
        if any(isinstance(cause, InvalidResponse) for cause in causes):
            raise _unfit("what answers there is no Redis; name its host and port") from error
        raise


async def first_contact(
    redis: Redis, keys: Keys = _HOME, *, patience_s: float = 60.0, pause_s: float = 0.5
) -> ServerState:
    """As `check_server`, but waits up to `patience_s` for a Redis that is only starting.

    Raises Unavailable when the patience is over.
    """
    deadline = time.monotonic() + patience_s
    told: str | None = None
    while True:
        try:
            return await check_server(redis, keys)
        except Unavailable as error:
            if time.monotonic() + pause_s > deadline:
                raise
            if error.detail != told:
                told = error.detail
                _log.warning("waiting for redis", reason=told, patience_s=patience_s)
        await asyncio.sleep(pause_s)


async def claim_instance(redis: Redis, keys: Keys = _HOME) -> str:
    """The random key that tells this data set from an empty one; written if it is missing. Raises Unavailable."""
    with translated("be claimed"):
        await redis.set(keys.instance, secrets.token_hex(16), nx=True)
        await redis.set(keys.schema, SCHEMA, nx=True)
        value = await redis.get(keys.instance)
    if value is None:
        raise Unavailable("Redis forgot a key that was just written")
    return _text(value)


async def probe(redis: Redis, keys: Keys = _HOME) -> Seen:
    """One small write and some reads in one round trip. Raises Unavailable."""
    with translated("answer a probe"):
        pipeline = redis.pipeline(transaction=False)
        pipeline.set(keys.alive, "1", ex=ALIVE_SECONDS)
        pipeline.mget(keys.instance, keys.mark)
        pipeline.info("memory")
        pipeline.info("server")
        _, (instance, mark), memory, server = await pipeline.execute()
    return Seen(
        None if instance is None else _text(instance),
        memory.get("maxmemory_policy"),
        Mark.read(mark),
        memory.get("used_memory", 0),
        memory.get("maxmemory", 0),
        server.get("run_id"),
    )


def unfit_policy(policy: str | None) -> str | None:
    """The readiness reason of a Redis that may throw our keys away; None for `noeviction` or one that does not say."""
    if policy in {None, "noeviction"}:
        return None
    return f"Redis may evict deliveries: maxmemory-policy is {policy}; set it to noeviction"


def server_version(info: dict[str, Any]) -> tuple[int, ...]:
    """The version of Redis whose behaviour the server has: Valkey says 7.2.4 there, and its own elsewhere."""
    return tuple(int(part) for part in re.findall(r"\d+", str(info.get("redis_version", "0")))[:3])


async def _check_schema(redis: Redis, keys: Keys) -> None:
    value = await redis.get(keys.schema)
    if value is not None and int(value) > SCHEMA:
        raise _unfit(f"holds keys of layout {int(value)}, written by a newer Hookcast; this one knows up to {SCHEMA}")


async def _check_rights(redis: Redis, keys: Keys) -> None:
    """Scripts, and channels: new users of Redis 7 have none, and a script would end in the middle of its writes."""
    await redis.evalsha(await redis.script_load("return 0"), 1, keys.alive)
    await redis.publish(f"{keys.prefix}rights", b"")


def _causes(error: BaseException | None) -> list[BaseException]:
    """redis-py wraps what the server said while connecting in a ConnectionError."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _unfit(detail: str) -> InvalidInput:
    return InvalidInput(Reason.REDIS_UNFIT, "redis_url", detail)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("ascii")
