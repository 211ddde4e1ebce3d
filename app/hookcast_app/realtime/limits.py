"""How much one address and one client may ask for: bounded counts, by a clock that is passed in. Pure.

An address is counted as a whole where one user has it: an IPv4 address, or the /64 of an IPv6 one (RFC 6177).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from hookcast_core import pace

MAX_ADDRESSES = 10_000
"""Of whom a rate is known; of more the one that was longest quiet is forgotten, and may begin anew."""
BURST_SECONDS = 2.0
"""Of a rate, that may come at once: what follows a page's start, or a cut connection."""
_PREFIX = 64
_MAX_PARSED = 4096
"""Addresses that are known from before; proxies and whoever is behind them come again and again."""
_LONGEST = 64
"""Characters of an address; a header may hold anything."""

Network = IPv4Network | IPv6Network
Clock = Callable[[], float]
"""Seconds that never go back."""


class Pace:
    """`rate` a second by a clock, twice that at once; 0 is no limit. Whole at first."""

    __slots__ = ("_clock", "_pace")

    def __init__(self, rate: float, clock: Clock) -> None:
        self._pace = pace.Pace(rate * BURST_SECONDS, BURST_SECONDS * 1000) if rate else None
        self._clock = clock

    def take(self) -> bool:
        """Takes one; False if there is none left."""
        return self._pace is None or self._pace.take(self._clock())


class AddressLimits:
    """What connections of one address may do; lives as long as the server.

    `connects` is how many may be opened per second, `waiting` how many may be open without an identity; 0 is no limit.
    """

    def __init__(self, *, connects: float, waiting: int, clock: Clock) -> None:
        self._connects = connects
        self._most_waiting = waiting
        self._clock = clock
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._waiting: dict[str, int] = {}

    def is_too_fast(self, address: str) -> bool:
        """Counts one connection, and says whether it is one too many."""
        if not self._connects:
            return False
        pace = self._paces.get(address)
        if pace is None:
            pace = self._paces[address] = Pace(self._connects, self._clock)
            if len(self._paces) > MAX_ADDRESSES:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(address)
        return not pace.take()

    def is_crowded(self, address: str) -> bool:
        """Whether as many connections wait as may."""
        return 0 < self._most_waiting <= self._waiting.get(address, 0)

    def enter(self, address: str) -> "Waiting":
        """A connection waits to say who it is."""
        self._waiting[address] = self._waiting.get(address, 0) + 1
        return Waiting(address, self._left)

    def _left(self, address: str) -> None:
        count = self._waiting[address] - 1
        if count:
            self._waiting[address] = count
        else:
            del self._waiting[address]


class Waiting:
    """One connection that has not said who it is."""

    __slots__ = ("_address", "_left")

    def __init__(self, address: str, left: Callable[[str], None]) -> None:
        self._address = address
        self._left: Callable[[str], None] | None = left

    def end(self) -> None:
        """It has said so, or is gone; the first call counts."""
        left, self._left = self._left, None
        if left is not None:
            left(self._address)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks as settings write them. ValueError for what is none."""
    return tuple(map(ip_network, texts))


def counted_address(peer: str | None, forwarded_for: Sequence[str] = (), proxies: Sequence[Network] = ()) -> str:
    """What a connection is counted by: `peer` connected, and sent these `X-Forwarded-For`; "" if it has no address.

    Each proxy adds who connected to it at the end, so the list is read from there, for as long as what is read are our
    proxies: what stands before is what anybody may claim.
    """
    found = _address(peer or "")
    if found is None:
        return peer or ""
    if proxies:
        hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
        while hops and any(found.address in network for network in proxies):
            nearer = _address(hops.pop())
            if nearer is None:
                break
            found = nearer
    return found.counted


class _Address(NamedTuple):
    address: IPv4Address | IPv6Address
    counted: str


def _address(text: str) -> _Address | None:
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=_MAX_PARSED)
def _parsed(text: str) -> _Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    found = found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
    if isinstance(found, IPv4Address):
        return _Address(found, str(found))
    return _Address(found, str(IPv6Network((int(found) >> _PREFIX << _PREFIX, _PREFIX))))
