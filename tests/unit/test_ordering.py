"""FIFO: one delivery of each ordering key at a time, whatever happens to it."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.delivery.ordering import Order
from hookcast_app.references import order_of, ref_of, reference


def waiting(number: int, key: str | None) -> tuple[bytes, str]:
    return (f"{number}-0".encode(), reference(f"ref{number}", key))


def test_the_first_of_each_key_goes_and_the_others_wait() -> None:
    """Those without a key are one sequence of their own."""
    order = Order()

    admitted = [order.admit(waiting(number, key)) for number, key in enumerate(("a", "b", "a", None, None, "a"))]

    assert admitted == [True, True, False, True, False, False]
    assert order.behind == 3


def test_the_end_of_one_lets_the_next_of_its_key_go() -> None:
    """In order; after the last one the key is free."""
    order = Order()
    first, second, third = (waiting(number, "a") for number in range(3))
    for each in (first, second, third):
        order.admit(each)

    assert order.ended(first[1]) == second
    assert order.ended(second[1]) == third
    assert order.ended(third[1]) is None
    assert order.admit(waiting(9, "a"))
    assert order.behind == 0


def test_a_reference_tells_its_event_and_its_key() -> None:
    """Whatever is in a publisher's key, a reference has one space at the most."""
    assert reference("r", None) == "r"
    for key in ("", "a key with spaces", "\x00\u20ac"):
        made = reference("r", key)
        assert (ref_of(made), made.count(" ")) == ("r", 1)
        assert order_of(made)
    assert order_of("r") == ""
    assert reference("r", "a") != reference("r", "b")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_key_ever_has_two_under_way_and_each_keeps_its_order(steps: list[tuple[str, bool]]) -> None:
    """Arrivals and ends in any order: what goes of one key goes one at a time, as it came."""
    order = Order()
    under_way: dict[str, tuple[bytes, str]] = {}
    went: dict[str, list[int]] = defaultdict(list)

    def go(key: str, each: tuple[bytes, str]) -> None:
        assert key not in under_way
        under_way[key] = each
        went[key].append(int(each[0].split(b"-")[0]))

    for number, (key, arrives) in enumerate(steps):
        if arrives:
            each = waiting(number, key)
            if order.admit(each):
                go(key, each)
        elif key in under_way:
            following = order.ended(under_way.pop(key)[1])
            if following is not None:
                go(key, following)

    for numbers in went.values():
        assert numbers == sorted(numbers)
    assert order.behind == sum(arrives for _, arrives in steps) - sum(map(len, went.values()))
