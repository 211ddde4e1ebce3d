"""Matching: the right subscriptions, and a cost that does not grow with the others."""

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.subscriptions.matching import Matcher, fair_limit
from hookcast_core.configuration import Entry
from hookcast_core.filters import MAX_COST, FilterError, check_pattern, compile_filter, event_context, matches_type
from hookcast_core.subscription import parse_subscription


@dataclass(frozen=True)
class Event:
    """An event as matching sees it."""

    type: str = "order.created"
    source: str = "/shop"
    subject: str | None = None
    time: str = "2027-01-31T12:00:00Z"
    data_json: bytes | None = b"{}"


def subscription(uid: str, *types: str, filter: str | None = None) -> Entry:  # noqa: A002  the field's name
    """An entry with these patterns."""
    events: dict[str, Any] = {"types": list(types)} | ({"filter": filter} if filter else {})
    url = "https://shop.example/hooks"
    spec = parse_subscription({"endpoint": {"url": url}, "events": events})
    return Entry(uid=uid, generation=1, namespace="default", name=uid, source="files", spec=spec, url=url)


TYPES = ("a", "a.b", "a.b.c", "a.b.c.d", "b", "c")


def uids(matcher: Matcher, event: Event) -> list[str]:
    """Who takes an event."""
    return [entry.uid for entry in matcher.match(event).entries]


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        ("order.created", ["exact", "prefix", "several", "all"]),
        ("order.created.late", ["prefix", "deep", "several", "all"]),
        ("order", ["all"]),
        ("orders.created", ["all"]),
        ("user.created", ["several", "all"]),
        ("Order.created", ["all"]),
    ],
)
def test_patterns_are_exact_prefix_or_all(event_type: str, expected: list[str]) -> None:
    """`order.*` takes what is below order at any depth, not order itself; each subscription comes once, in order."""
    matcher = Matcher(
        [
            subscription("exact", "order.created"),
            subscription("prefix", "order.*"),
            subscription("deep", "order.created.*"),
            subscription("several", "user.created", "order.*", "order.created", "order.*"),
            subscription("all", "*"),
        ]
    )

    assert uids(matcher, Event(type=event_type)) == expected
    assert [entry.uid for entry in matcher.candidates(event_type)] == expected


NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "c_"]), min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: f"{name}.*"), st.just("*"))


@given(st.lists(st.lists(PATTERNS, min_size=1, max_size=4), max_size=12), NAMES)
def test_the_index_finds_what_the_definition_says(patterns: list[list[str]], event_type: str) -> None:
    """For any patterns and any type, the index agrees with matches_type applied to each of them."""
    entries = [subscription(f"s{index}", *types) for index, types in enumerate(patterns)]

    found = Matcher(entries).candidates(event_type)

    assert found == [
        entry for entry in entries if any(matches_type(pattern, event_type) for pattern in entry.spec.events.types)
    ]


CHANGES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.none()
    | st.tuples(
        st.lists(st.sampled_from(["*", "a.*", "a.b.*", "a.b", "a.b.c", "b"]), min_size=1, max_size=3),
        st.sampled_from([None, "data == 1", "data == 2"]),
    ),
    min_size=1,
)


@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_an_index_that_is_changed_is_as_a_new_one(rounds: list[dict[str, tuple[list[str], str | None] | None]]) -> None:
    """Entries come, change and go: the same match, in the same order, and what was changed from stays as it was."""
    matcher = Matcher([])
    entries: dict[str, Entry] = {}
    for changes in rounds:
        made = {uid: one and subscription(uid, *one[0], filter=one[1]) for uid, one in changes.items()}
        before, found_before = matcher, [uids(matcher, Event(type_)) for type_ in TYPES]
        matcher = matcher.changed(made)
        for uid, entry in made.items():
            if entry is None:
                entries.pop(uid, None)
            else:
                entries[uid] = entry

        anew = Matcher(entries.values())
        assert dict(matcher.by_uid) == dict(anew.by_uid)
        assert list(matcher.by_uid) == list(anew.by_uid)
        for type_ in TYPES:
            assert matcher.candidates(type_) == anew.candidates(type_)
        assert [uids(before, Event(type_)) for type_ in TYPES] == found_before


def test_filters_that_are_no_longer_used_are_forgotten() -> None:
    """However often a subscription's filter is edited, an index holds few more than its entries have."""
    matcher = Matcher([])
    for number in range(1_000):
        matcher = matcher.changed({"a": subscription("a", "*", filter=f"data == {number}")})

    assert len(matcher.filters) < 300
    assert uids(matcher, Event(data_json=b"999")) == ["a"]
    assert uids(matcher, Event(data_json=b"1")) == []


@pytest.mark.parametrize("pattern", ["order.created", "a", "*", "a.*", "a.b.*", "A_1-b"])
def test_patterns_of_the_three_forms_are_taken(pattern: str) -> None:
    """check_pattern gives back what it accepts."""
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", ".*", "order*", "*.created", "a.*.b", "**", "a b", "ä", "a\n", "x" * 131])
def test_other_patterns_are_refused(pattern: str) -> None:
    """A star stands only alone or after a last dot."""
    with pytest.raises(ValueError, match=r'"order\.\*"'):
        check_pattern(pattern)


def test_filters_look_at_the_whole_event() -> None:
    """Type, source, subject, time and data are there; only true is a match."""
    matcher = Matcher(
        [
            subscription("data", "order.*", filter="data.amount > 100"),
            subscription("subject", "order.*", filter='subject == "o-1"'),
            subscription("source", "order.*", filter='source == "/shop" && type.endsWith(".created")'),
            subscription("time", "order.*", filter='timestamp(time) > timestamp("2027-01-01T00:00:00Z")'),
            subscription("no", "order.*", filter="data.amount > 1000"),
            subscription("number", "order.*", filter="data.amount"),
            subscription("none", "order.*"),
        ]
    )

    matches = matcher.match(Event(subject="o-1", data_json=b'{"amount": 150.5}'))

    assert [entry.uid for entry in matches.entries] == ["data", "subject", "source", "time", "none"]
    assert matches.errors == {}


def test_a_filter_that_fails_is_no_match_and_reported() -> None:
    """A missing field of one subscription's filter is its own error and nobody else's."""
    matcher = Matcher(
        [subscription("fails", "*", filter="data.nope.deeper == 1"), subscription("fine", "*", filter="true")]
    )

    matches = matcher.match(Event())

    assert [entry.uid for entry in matches.entries] == ["fine"]
    assert list(matches.errors) == ["fails"]
    assert "nope" in matches.errors["fails"]


@pytest.mark.parametrize("data", [b'{"a":', b"\xff", b'"\\ud800"', b"[" * 5_000 + b"]" * 5_000])
def test_data_that_cannot_be_read_fails_the_filters_alone(data: bytes) -> None:
    """Subscriptions without a filter get the event all the same."""
    matcher = Matcher([subscription("filtered", "*", filter="data.a == 1"), subscription("plain", "*")])

    matches = matcher.match(Event(data_json=data))

    assert [entry.uid for entry in matches.entries] == ["plain"]
    assert list(matches.errors) == ["filtered"]


@pytest.mark.parametrize(
    "expression",
    [
        "data.amount > 100",
        "has(data.amount) && !has(data.nope)",
        "data.nope == 1",
        "data.items.exists(i, i.sku == data.wanted)",
        "data.exists(name, name == 'other')",
        "data['other'] == 1",
        "data.size() == 4",
        "size(data) == 4 && data.amount > 1",
        "'other' in data",
        "data == {'amount': 1}",
        "[data][0].other == 1",
        "(data).other == 1",
        "data // comment\n .other == 1",
    ],
)
@pytest.mark.parametrize("data", [{"amount": 150, "items": [{"sku": "A"}], "wanted": "A", "other": 1}, [1], None])
def test_leaving_out_what_no_filter_names_changes_nothing(expression: str, data: Any) -> None:
    """The verdict, and the error, are those of the filter on the whole event."""
    event = Event(data_json=json.dumps(data).encode())
    whole = event_context(event.type, event.source, event.subject, event.time, data)
    try:
        expected: bool | str = compile_filter(expression).matches(whole)
    except FilterError as error:
        expected = str(error)

    matches = Matcher([subscription("s", "*", filter=expression)]).match(event)

    assert (matches.errors.get("s") or bool(matches.entries)) == expected


def test_without_data_it_is_null() -> None:
    """An event without JSON data can still be filtered by its attributes."""
    matcher = Matcher([subscription("null", "*", filter='data == null && type == "order.created"')])

    assert uids(matcher, Event(data_json=None)) == ["null"]


class Unread:
    """An event whose data must not be looked at."""

    type = "order.created"
    source = "/shop"
    subject = None
    time = "2027-01-31T12:00:00Z"

    @property
    def data_json(self) -> bytes | None:
        """Fails the test."""
        raise AssertionError("the data was read")


def test_data_is_read_only_if_a_filter_asks() -> None:
    """Events that only unfiltered subscriptions take are never decoded."""
    matcher = Matcher([subscription("plain", "order.*"), subscription("other", "user.*", filter="data.a == 1")])

    matches = matcher.match(Unread())

    assert [entry.uid for entry in matches.entries] == ["plain"]
    assert matcher.trial(Unread()).cost == 0
    assert matcher.trial(Event(type="user.created")).cost > 0


COSTLY = "data.a.all(x, data.a == data.a)"


def costly(items: int) -> Event:
    """An event on which COSTLY costs more than the square of the items."""
    return Event(data_json=json.dumps({"a": list(range(items))}).encode())


def test_the_costliest_evaluations_of_a_request_go_without_a_verdict() -> None:
    """What is granted costs no more than the budget; another subscription's cheap filter has all its verdicts."""
    matcher = Matcher([subscription("costly", "*", filter=COSTLY), subscription("cheap", "*", filter="has(data.a)")])
    trials = [matcher.trial(costly(items)) for items in (10, 200, 20, 200)]
    budget = sum(trial.cost for trial in trials) // 2

    limit = fair_limit(trials, budget)
    found = [trial.matches(limit) for trial in trials]

    assert [[entry.uid for entry in matches.entries] for matches in found] == [
        ["costly", "cheap"],
        ["cheap"],
        ["costly", "cheap"],
        ["cheap"],
    ]
    assert [list(matches.errors) for matches in found] == [[], ["costly"], [], ["costly"]]
    assert "all events in its request" in found[1].errors["costly"]
    granted = [cost for trial in trials for cost in trial.costs.values() if cost <= limit]
    assert sum(granted) <= budget
    assert fair_limit(trials, budget * 3) == MAX_COST
    assert fair_limit([matcher.trial(costly(5_000))], MAX_COST) == MAX_COST  # refused in any case, and takes nothing


def test_the_same_filter_is_evaluated_once() -> None:
    """A thousand subscriptions with one expression share its program and its verdict."""
    matcher = Matcher([subscription(f"s{n}", "*", filter="data.a == 1") for n in range(100)])

    assert len({id(candidate.filter) for candidate in matcher._every}) == 1
    assert len(uids(matcher, Event(data_json=b'{"a": 1}'))) == 100


def best(matcher: Matcher, event: Event) -> float:
    """The shortest of many runs, in seconds."""
    times = []
    for _ in range(200):
        begin = time.perf_counter()
        matcher.match(event)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.parametrize("suffix", ["", ".*"])
def test_other_subscriptions_cost_nothing(suffix: str) -> None:
    """With 10 matching, 5,000 others (exact or prefix) make a match at most three times as long."""
    taking = [subscription(f"t{n}", "order.created", filter="data.amount > 100") for n in range(10)]
    others = [subscription(f"o{n}", f"other{n}.thing{suffix}") for n in range(5_000)]
    event = Event(data_json=json.dumps({"amount": 150}).encode())

    few, many = best(Matcher(taking), event), best(Matcher(taking + others), event)

    assert many < 3 * few + 20e-6
