"""How much one address and one client may ask for."""

import pytest

from hookcast_app.realtime.limits import MAX_ADDRESSES, AddressLimits, Pace, counted_address, networks


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_allows_two_seconds_worth_at_once_and_then_its_rate() -> None:
    """However long nothing was asked for."""
    clock = Clock()
    pace = Pace(5, clock)

    assert [pace.take() for _ in range(12)] == [True] * 10 + [False] * 2
    clock.now += 0.4
    assert [pace.take() for _ in range(4)] == [True] * 2 + [False] * 2
    clock.now += 1_000
    assert [pace.take() for _ in range(12)] == [True] * 10 + [False] * 2


def test_no_rate_is_no_limit() -> None:
    """0 turns a limit off."""
    limits = AddressLimits(connects=0, waiting=0, clock=Clock())

    assert all(Pace(0, Clock()).take() for _ in range(1_000))
    assert not any(limits.is_too_fast("a") for _ in range(1_000))
    limits.enter("a")
    assert not limits.is_crowded("a")


def test_addresses_do_not_disturb_each_other() -> None:
    """Each has its own count of connects, and of connections that wait."""
    limits = AddressLimits(connects=1, waiting=2, clock=Clock())

    assert [limits.is_too_fast("a") for _ in range(3)] == [False, False, True]
    assert not limits.is_too_fast("b")
    first, _second = limits.enter("a"), limits.enter("a")
    assert limits.is_crowded("a")
    assert not limits.is_crowded("b")
    first.end()
    first.end()
    assert not limits.is_crowded("a")
    limits.enter("a")
    assert limits.is_crowded("a")


def test_memory_is_bounded_however_many_addresses_come() -> None:
    """The one that was longest quiet is forgotten; nothing is kept of connections that are gone."""
    limits = AddressLimits(connects=1, waiting=1, clock=Clock())
    for number in range(MAX_ADDRESSES * 2):
        limits.is_too_fast(str(number))
        limits.enter(str(number)).end()
        limits.is_too_fast("loud")

    assert len(limits._paces) == MAX_ADDRESSES
    assert limits.is_too_fast("loud")
    assert limits._waiting == {}


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, [], ""),
        ("testclient", [], "testclient"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::/64"),
        ("fd00::1", ["198.51.100.7"], "198.51.100.7"),
    ],
)
def test_who_is_counted(peer: str | None, forwarded: list[str], counted: str) -> None:
    """The nearest address that is no proxy of ours; what stands before it in the header is only claimed."""
    assert counted_address(peer, forwarded, networks(["10.0.0.0/8", "fd00::/8"])) == counted


def test_without_proxies_the_header_says_nothing() -> None:
    """Anybody can send it."""
    assert counted_address("10.0.0.1", ["198.51.100.7"], ()) == "10.0.0.1"


def test_what_is_no_address_is_counted_as_it_is_however_long() -> None:
    """A header may hold anything; what is remembered of addresses is short."""
    proxies = networks(["10.0.0.0/8"])

    assert counted_address("10.0.0.1", ["1" * 10_000], proxies) == "10.0.0.1"
    assert counted_address("x" * 10_000) == "x" * 10_000
