"""Which of two configurations is in force, and what of a document holds."""

import pytest

from hookcast_app.configuration.acceptance import LineReader, Verdict, Version, judge
from hookcast_core.configuration import Entry
from hookcast_core.document import encode_line, make_document
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Reason
from tests.support.operator import entry

URL = "https://shop.example/hooks"
IN_FORCE = Version("o", 5, "r5", 100)


@pytest.mark.parametrize(
    ("arrived", "verdict"),
    [
        (Version("o", 6, "r6", 90), Verdict.NEW),
        (Version("o", 6, "r5", 90), Verdict.NEW),
        (Version("o", 5, "r5", 200), Verdict.SAME),
        (Version("o", 4, "r4", 200), Verdict.STALE),
        (Version("o", 5, "other", 101), Verdict.NEW),
        (Version("o", 5, "other", 99), Verdict.STALE),
        (Version("new", 1, "r1", 101), Verdict.NEW),
        (Version("old", 99, "r99", 99), Verdict.STALE),
    ],
)
def test_what_arrives_is_judged_by_what_it_is(arrived: Version, verdict: Verdict) -> None:
    """Sequence within an origin, time of sealing between two."""
    assert judge(arrived, IN_FORCE) is verdict
    assert judge(arrived, None) is Verdict.NEW


def read(reader: LineReader, lines: list[bytes], *before: Entry) -> tuple[dict[str, Entry], list[Reason]]:
    """Entries by UID, and reasons."""
    good = {one.uid: one for one in before}
    entries, rejected = reader.read(make_document(1, "o", lines), good)
    return {one.uid: one for one in entries}, [one.reason for one in rejected]


def test_unchanged_lines_are_not_parsed_again() -> None:
    """The very same objects come out."""
    reader = LineReader(EgressPolicy([]))
    lines = [encode_line(entry(f"u{number}", URL)) for number in range(3)]
    first, _ = read(reader, lines)

    again, _ = read(reader, [*lines[:2], encode_line(entry("u2", URL, 2))])

    assert again["u0"] is first["u0"]
    assert again["u2"] is not first["u2"]


def test_a_rejected_line_leaves_its_last_good_entry() -> None:
    """And the others; one that never was good is not there."""
    good = entry("u0", URL)
    lines = [
        encode_line(entry("u0", "https://10.0.0.1/", 2)),
        encode_line(entry("u1", URL, events={"types": ["*"], "filter": "data.x >"})),
        encode_line(entry("u2", URL)),
        b'{"generation":1,"uid":"u3"}',
        b"nothing",
    ]

    entries, reasons = read(LineReader(EgressPolicy([])), lines, good)

    assert entries.keys() == {"u0", "u2"}
    assert entries["u0"] is good
    assert sorted(reasons) == sorted(
        [Reason.EGRESS_DENIED, Reason.INVALID_FILTER, Reason.INVALID_SUBSCRIPTION, Reason.INVALID_SUBSCRIPTION]
    )


def test_a_secret_url_is_not_shown() -> None:
    """The refusal says where it is, not what."""
    secret = entry("u", "https://10.0.0.1/t0ken", endpoint={"urlSecretRef": {"name": "n", "key": "k"}})

    _, (rejected,) = LineReader(EgressPolicy([])).read(make_document(1, "o", [encode_line(secret)]), {})

    assert rejected.reason is Reason.EGRESS_DENIED
    assert "10.0.0.1" not in str(rejected)
