"""The Redis servers behind one URL: one, or the masters of a Redis Cluster.

Everything of a partition lies in one slot, so a client for a partition needs no routing: it is a plain one whose every
connection goes to whichever master serves that slot now. What a master refuses because it serves the slot no longer was
not carried out; the connection then counts as broken, and the next one goes to the right master.
"""

import asyncio
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from hookcast_app.redis.connect import create_redis
from hookcast_app.redis.errors import ClusterChanged
from hookcast_core.errors import InvalidInput, Reason

SLOTS = 16_384
KNOWN_SECONDS = 1.0
"""How long what a node said of the cluster is believed by new connections."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


Range = tuple[int, int, Address]
"""The first and the last slot that a master serves."""


def slot_of(tag: int) -> int:
    """The slot of a hash tag (Redis Cluster specification, "Hash tags")."""
    return key_slot(str(tag).encode())


class Servers:
    """Lives as long as the app. `is_cluster` is known once a command was answered.

    Raises InvalidInput (field `redis_url`) for a URL that cannot be read.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self._options = options
        self._home = create_redis(url, **options)
        pool = self._home.connection_pool
        self._cluster: _Cluster | None = None
        if not issubclass(pool.connection_class, UnixDomainSocketConnection):
            self._cluster = _Cluster(pool.connection_class, dict(pool.connection_kwargs))
            self._bind(self._home, 0)
        self._others: dict[int, Redis] = {}

    @property
    def is_cluster(self) -> bool:
        """Whether there are several, each with a part of the slots."""
        return self._cluster is not None and bool(self._cluster.is_one)

    def of(self, tag: int) -> Redis:
        """The client for everything of a hash tag."""
        if tag == 0 or not self.is_cluster:
            return self._home
        if tag not in self._others:
            self._others[tag] = create_redis(self._url, **self._options)
            self._bind(self._others[tag], tag)
        return self._others[tag]

    async def aclose(self) -> None:
        """Closes every connection."""
        for client in (self._home, *self._others.values()):
            await client.aclose()

    def _bind(self, client: Redis, tag: int) -> None:
        pool = client.connection_pool
        members = {"cluster": self._cluster, "slot": slot_of(tag)}
        pool.connection_class = type("HookcastClusterConnection", (_Located, pool.connection_class), members)


class _Cluster:
    """What is known of a cluster: which master serves which slots. Asks the nodes that it knows, in turn."""

    def __init__(self, connection_class: type[AbstractConnection], settings: dict[str, Any]) -> None:
        self._connection_class = connection_class
        self._settings = settings
        self._seed = Address(settings.get("host", "localhost"), int(settings.get("port", 6379)))
        self._ranges: list[Range] = []
        self._nodes: list[Address] = []
        self._known_until = 0.0
        self._asking = asyncio.Lock()
        self.is_one: bool | None = None

    async def master(self, slot: int) -> Address:
        """Who serves a slot; the only server there is, if it is no cluster. Raises what redis-py raises."""
        if not self._is_known:
            async with self._asking:
                if not self._is_known:
                    await self._ask()
        if not self.is_one:
            return self._seed
        for first, last, address in self._ranges:
            if first <= slot <= last:
                return address
        raise ClusterDownError(f"no master serves slot {slot}")

    @property
    def _is_known(self) -> bool:
        return self.is_one is False or time.monotonic() < self._known_until

    def forget(self) -> None:
        """What is known is no longer so."""
        self._known_until = 0.0

    async def _ask(self) -> None:
        failure: Exception | None = None
        for address in list(dict.fromkeys([*self._nodes, self._seed])):
            try:
                await self._ask_one(address)
            except (RedisError, OSError) as error:
                failure = failure or error
                continue
            return
        assert failure is not None, "there is the seed at least"  # noqa: S101
        raise failure

    async def _ask_one(self, address: Address) -> None:
        connection = self._connection_class(**{**self._settings, "host": address.host, "port": address.port})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            if self.is_one is None:
                await connection.send_command("INFO", "cluster")
                self.is_one = b"cluster_enabled:1" in cast("bytes", await connection.read_response())
            if self.is_one:
                await connection.send_command("CLUSTER", "SLOTS")
                self._learn(await connection.read_response(), address)
        finally:
            await connection.disconnect(nowait=True)

    def _learn(self, answer: list[Any], asked: Address) -> None:
        self._ranges = [(first, last, _address(nodes[0], asked)) for first, last, *nodes in answer]
        # Another node is asked first the next time: one that is cut off may not know that it is.
        nodes = list(dict.fromkeys(_address(node, asked) for _, _, *each in answer for node in each))
        start = nodes.index(asked) + 1 if asked in nodes else 0
        self._nodes = nodes[start:] + nodes[:start]
        self._known_until = time.monotonic() + KNOWN_SECONDS


def _address(node: list[Any], asked: Address) -> Address:
    """A node as `CLUSTER SLOTS` names it; without a host it is the one that was asked."""
    host = (node[0] or b"").decode()
    return Address(asked.host if host in {"", "?"} else host, int(node[1]))


class _Located(AbstractConnection):
    """A connection to whichever master serves a slot when it is opened; a mixin before a TCP connection's class."""

    cluster: _Cluster
    slot: int
    host: str
    port: int
    db: int

    async def _connect(self) -> None:
        self.host, self.port = await self.cluster.master(self.slot)
        if self.cluster.is_one and self.db:
            detail = f"names the database {self.db}; a Redis Cluster has none but 0, so leave it out"
            raise InvalidInput(Reason.INVALID_SETTING, "redis_url", detail)
        try:
            await super()._connect()  # type: ignore[safe-super,no-untyped-call]
        except OSError:
            self.cluster.forget()
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As the base class does; what shows that the slot is served elsewhere breaks the connection."""
        try:
            return await super().read_response(*args, **kwargs)
        except (AskError, ClusterDownError, ReadOnlyError) as error:
            if not self.cluster.is_one:
                raise
            self.cluster.forget()
            await self.disconnect(nowait=True)
            raise ClusterChanged from error
        except (RedisConnectionError, OSError):
            self.cluster.forget()
            raise


def ranges(count: int) -> Iterator[range]:
    """The slots in `count` ranges of one size, about."""
    for number in range(count):
        yield range(number * SLOTS // count, (number + 1) * SLOTS // count)


@cache
def tags_of(count: int) -> tuple[int, ...]:
    """The hash tags of so many partitions: for each the smallest integer whose slot lies in its range of slots."""
    wanted = list(ranges(count))
    found: dict[int, int] = {}
    tag = 0
    while len(found) < count:
        slot = slot_of(tag)
        number = next(at for at, each in enumerate(wanted) if slot in each)
        found.setdefault(number, tag)
        tag += 1
    return tuple(found[number] for number in range(count))
