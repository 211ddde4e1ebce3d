"""Small decisions of the operator: the lease, which sequence carried what, what fits, and what is told."""

from dataclasses import replace
from typing import Any

import pytest

from hookcast_core.document import make_document
from hookcast_operator.compile import Judgement
from hookcast_operator.lease import Seen, Step, decide
from hookcast_operator.ledger import Ledger
from hookcast_operator.news import News, news_of
from hookcast_operator.objects import Identity
from hookcast_operator.reconcile import _changes, fitting


def identity(uid: str = "u", generation: int = 1, created: str = "2026-01-01T00:00:00Z", name: str = "n") -> Identity:
    return Identity("WebhookSubscription", uid, generation, "shop", name, created)


LINE = b'{"generation":%d,"name":"orders","namespace":"shop","uid":"%s"}'


def judgement(uid: str = "u", generation: int = 1, line: bytes | None = b"", **more: Any) -> Judgement:
    text = LINE % (generation, uid.encode()) if line == b"" else line
    return Judgement(identity(uid, generation), None, None, text, generation if text else None, **more)


@pytest.mark.parametrize(
    ("holder", "since", "was_mine", "step"),
    [
        ("me", 0, False, Step.TAKE),
        ("me", 0, True, Step.TAKE),
        ("", 99, False, Step.TAKE),
        ("", 99, True, Step.TAKE),
        ("other", 99, False, Step.WAIT),
        ("other", 85, False, Step.WAIT),
        ("other", 84.9, False, Step.TAKE),
        ("other", 0, True, Step.LOST),
        ("other", 99, True, Step.LOST),
    ],
)
def test_who_takes_the_lease(*, holder: str, since: float, was_mine: bool, step: Step) -> None:
    """Ours, nobody's, or one that was not renewed in its time; whoever was overtaken ends."""
    assert decide("me", Seen(holder, "t", 15, since), 100, was_mine=was_mine) is step


def test_the_ledger_knows_which_sequence_first_carried_a_line() -> None:
    """Others' changes do not rewrite it; another line does; a line that is not stored has none."""
    ledger = Ledger()
    first, other = judgement("a"), judgement("b")

    assert ledger.published([first], 1) == ["a"]
    assert ledger.published([first, other], 2) == ["b"]
    assert (ledger.line_sequence(first), ledger.line_sequence(other)) == (1, 2)

    changed = judgement("a", line=b'{"generation":1,"uid":"a","x":1}')
    assert ledger.line_sequence(changed) is None
    assert ledger.published([changed, other], 3) == ["a"]
    assert ledger.line_sequence(changed) == 3
    assert ledger.configuration_sequence(changed, {}) == 1, "the generation was carried before"


def test_the_ledger_goes_on_from_what_was_stored() -> None:
    """After a restart nothing is fresh; what the status says of this generation stays."""
    same = judgement("a")
    ledger = Ledger(make_document(7, "o", [same.line or b"", b"unreadable"]))

    assert ledger.published([same], 7) == []
    assert ledger.line_sequence(same) == 7
    assert ledger.configuration_sequence(same, {"observedGeneration": 1, "configurationSequence": 3}) == 3
    assert ledger.configuration_sequence(same, {"observedGeneration": 2, "configurationSequence": 3}) == 7
    assert ledger.configuration_sequence(same, {"observedGeneration": 1, "configurationSequence": "x"}) == 7


def test_the_ledger_forgets_what_went() -> None:
    """An object without a line has no sequence, and nothing is kept of it; an older generation is not the newest."""
    ledger = Ledger()
    ledger.published([judgement("a")], 1)
    kept = replace(judgement("a"), identity=identity("a", 2))

    ledger.published([kept], 2)
    assert ledger.line_sequence(kept) == 1
    assert ledger.configuration_sequence(kept, {}) is None
    ledger.published([judgement("a", line=None)], 3)

    assert not ledger._lines
    assert not ledger._generations


def test_past_the_ceiling_what_is_in_force_stays() -> None:
    """Edits come first, those that need least room before others, then new ones by creation and UID; order stays."""
    made = {"e": "2026-01-03", "c": "2026-01-02", "d": "2026-01-02", "a": "2026-01-05", "b": "2026-01-04"}
    judgements = {uid: replace(judgement(uid), identity=identity(uid, created=day)) for uid, day in made.items()}
    judgements["f"] = replace(judgement("f"), line=None, carries=None)
    judgements["g"] = judgement("g")
    line = judgements["g"].line
    assert line is not None
    before = {"g": line, "a": LINE % (0, b"a") + b" ", "b": LINE % (0, b"b")}

    changes = _changes(judgements, before, ())

    def left_out(count: int) -> list[str]:
        found = fitting(judgements, before, changes[:count], "too much")
        assert list(found) == list(judgements)
        return sorted(uid for uid, one in found.items() if one.accepted)

    found = fitting(judgements, before, changes[:1], "too much")
    assert [left_out(count) for count in range(6)] == [
        ["a", "b", "c", "d", "e"],
        ["b", "c", "d", "e"],
        ["c", "d", "e"],
        ["d", "e"],
        ["e"],
        [],
    ]
    refusal = found["b"].accepted
    assert refusal is not None
    assert refusal.reason == "CapacityExceeded"
    assert (found["b"].line, found["b"].carries, found["b"].holds) == (before["b"], 0, False)
    assert (found["c"].line, found["c"].carries, found["c"].holds) == (None, None, False)
    assert all(found[uid] is judgements[uid] for uid in "afg")


def status(generation: int = 1, **conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "conditions": [
            {
                "type": name,
                "status": state,
                "reason": reason,
                "message": message,
                "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for name, (state, reason, message) in conditions.items()
        ]
    }


READY = ("True", "Ready", "in force")
FAILING = ("False", "Failing", "the last attempts failed")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, status(Ready=READY), [("Normal", "Programmed")]),
        (status(Ready=READY), status(Ready=READY), []),
        (status(Ready=READY), status(2, Ready=READY), [("Normal", "Programmed")]),
        ({}, status(Ready=("False", "InvalidFilter", "m")), [("Warning", "InvalidFilter")]),
        (status(Ready=("False", "InvalidFilter", "m")), status(2, Ready=("False", "InvalidFilter", "m")), []),
        ({}, status(Ready=("False", "Pending", "m")), []),
        ({}, status(Ready=("False", "PartiallyProgrammed", "m")), []),
        (status(Ready=READY), status(Ready=("False", "Suspended", "m")), []),
        ({}, status(Ready=READY, Delivering=("Unknown", "NoDeliveriesYet", "m")), [("Normal", "Programmed")]),
        (status(Ready=READY), status(Ready=READY, Delivering=FAILING), [("Warning", "Failing")]),
        (status(Ready=READY, Delivering=FAILING), status(Ready=READY, Delivering=FAILING), []),
        ({}, {}, []),
    ],
)
def test_what_is_worth_an_event(before: dict[str, Any], after: dict[str, Any], told: list[tuple[str, str]]) -> None:
    """What a user can act on, once; nothing that passes by itself."""
    assert [(news.type, news.reason) for news in news_of(identity(), before, after)] == told


def test_the_same_news_has_the_same_name() -> None:
    """So that telling it twice makes no second Event; names at the limit stay valid."""
    news = News(identity(name="n" * 200), "Warning", "Failing", "m", "t")

    assert news.name == replace(news).name
    assert news.name != replace(news, since="later").name
    assert len(news.name) <= 253
    body = news.body("2026-01-01T00:00:00Z", "pod-1")
    assert body["involvedObject"]["uid"] == "u"
    assert body["metadata"]["namespace"] == "shop"
