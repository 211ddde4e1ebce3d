"""What all processes together have: channels with their subscribers, and the processes themselves."""

import re
import socket
import time
from collections.abc import Callable, Sequence
from fnmatch import translate
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec

from hookcast_app.realtime.clients import Clients
from hookcast_app.realtime.hub import Hub
from hookcast_app.realtime.nodes import Nodes

MAX_CHANNELS = 10_000
"""Channels that one process tells of at once."""
_CHANNELS, _NODE = "channels", "node"


class Node(msgspec.Struct, frozen=True):
    """One process, by the names of Centrifugo's server API; `uptime` is in seconds."""

    uid: str
    name: str
    version: str = ""
    num_clients: int = 0
    num_users: int = 0
    num_channels: int = 0
    num_subs: int = 0
    uptime: int = 0


class Channels(NamedTuple):
    """Subscribers by channel, and whether these are all channels that there are."""

    subscribers: dict[str, int]
    is_complete: bool


class _Here(msgspec.Struct, frozen=True):
    """A process's answer about its channels."""

    subscribers: dict[str, int]
    is_complete: bool = True


class Census:
    """Lives as long as the server; `clock` gives seconds that never go back."""

    def __init__(
        self, hub: Hub, clients: Clients, nodes: Nodes, *, version: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hub = hub
        self._clients = clients
        self._nodes = nodes
        self._version = version
        self._clock = clock
        self._since = clock()
        nodes.answers(_CHANNELS, self._channels_here)
        nodes.answers(_NODE, lambda _: self._node_here())

    async def channels(self, pattern: str = "") -> Channels:
        """Channels that somebody is subscribed to, of each process MAX_CHANNELS at most. Raises Unavailable.

        Of a `pattern` those that match: `*` stands for any characters, `?` for one, `[…]` for one of a set.
        """
        total: dict[str, int] = {}
        is_complete = True
        for here in _read(await self._nodes.ask_all(_CHANNELS, pattern), _Here):
            is_complete &= here.is_complete
            for channel, count in here.subscribers.items():
                total[channel] = total.get(channel, 0) + count
        return Channels(total, is_complete)

    async def nodes(self) -> list[Node]:
        """All processes. Raises Unavailable."""
        return sorted(_read(await self._nodes.ask_all(_NODE), Node), key=lambda node: (node.name, node.uid))

    def _channels_here(self, pattern: str) -> _Here:
        matches = re.compile(translate(pattern)).match if pattern else None
        found = (each for each in self._hub.counts() if matches is None or matches(each[0]))
        first = dict(islice(found, MAX_CHANNELS))
        return _Here(first, is_complete=next(found, None) is None)

    def _node_here(self) -> Node:
        counts = [count for _, count in self._hub.counts()]
        return Node(
            uid=self._nodes.uid,
            name=socket.gethostname(),
            version=self._version,
            num_clients=self._clients.known,
            num_users=self._clients.users,
            num_channels=len(counts),
            num_subs=sum(counts),
            uptime=int(self._clock() - self._since),
        )


T = TypeVar("T")


def _read(answers: Sequence[Any], kind: type[T]) -> list[T]:
    """The answers of those processes whose version knows the question."""
    return [msgspec.convert(answer, kind) for answer in answers if answer is not None]
