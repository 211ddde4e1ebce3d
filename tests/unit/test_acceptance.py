"""What of a document holds."""

from hookcast_app.configuration.acceptance import LineReader, Rejected
from hookcast_core.configuration import Entry, SourceEntry
from hookcast_core.document import encode_line, make_document
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Reason
from tests.support.operator import entry, source

URL = "https://shop.example/hooks"


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


def read_sources(
    lines: list[bytes], *before: SourceEntry, reader: LineReader | None = None
) -> tuple[dict[str, SourceEntry], dict[str, Rejected]]:
    """Sources, and what was rejected, by UID."""
    good = {one.uid: one for one in before}
    sources, rejected = (reader or LineReader(EgressPolicy([]))).read_sources(make_document(1, "o", [], lines), good)
    return {one.uid: one for one in sources}, {one.uid: one for one in rejected}


def test_unchanged_sources_are_not_parsed_again() -> None:
    """As subscriptions; and both count as new only once."""
    reader = LineReader(EgressPolicy([]))
    lines = [encode_line(source("s0", "a")), encode_line(source("s1", "b"))]
    both = make_document(1, "o", [encode_line(entry("u0", URL))], lines)
    assert reader.count_new(both) == 3
    first, _ = read_sources(lines, reader=reader)

    again, _ = read_sources([lines[0], encode_line(source("s1", "b", 2))], reader=reader)

    assert again["s0"] is first["s0"]
    assert again["s1"].generation == 2


def test_a_source_with_an_unknown_field_is_rejected_alone() -> None:
    """Named with its version; its last good one receives on, and its neighbours do as they say."""
    good = source("s0", "a")
    newer = encode_line(source("s0", "a", 2)).replace(b'"event":', b'"window":"1m","event":')
    unknown = encode_line(source("s2", "c")).replace(b'"GitHub"', b'"Twilio"')
    without = encode_line(source("s3", "d")).replace(b'"secrets":["s3cret"]', b'"secrets":[]')

    sources, rejected = read_sources([newer, encode_line(source("s1", "b")), unknown, without, b"nothing"], good)

    assert sources.keys() == {"s0", "s1"}
    assert sources["s0"] is good
    assert {one.reason for one in rejected.values()} == {Reason.INVALID_SOURCE}
    assert (rejected["s0"].generation, rejected["s0"].field) == (2, "spec.window")
    assert rejected["s2"].field == "spec.verification.scheme"
    assert rejected.keys() == {"s0", "s2", "s3", ""}
    assert "s3cret" not in " ".join(map(str, rejected.values()))


def test_a_path_that_another_has_is_rejected() -> None:
    """Who has it keeps it; who wanted it stays where it was, or is nowhere."""
    a, b = source("s-a", "a"), source("s-b", "b")
    lines = [encode_line(one) for one in (source("s-a", "b", 2), b, source("s-0", "b"))]

    sources, rejected = read_sources(lines, a, b)

    assert sources == {"s-a": a, "s-b": b}
    assert {uid: (one.reason, one.field) for uid, one in rejected.items()} == {
        "s-a": (Reason.PATH_TAKEN, "spec.path"),
        "s-0": (Reason.PATH_TAKEN, "spec.path"),
    }


def test_paths_are_swapped_and_kept() -> None:
    """In one document; but nobody gets the old path of one whose new one is taken."""
    a, b = source("s-a", "a"), source("s-b", "b")
    swapped = [encode_line(source("s-a", "b", 2)), encode_line(source("s-b", "a", 2))]
    chain = [encode_line(one) for one in (source("s-a", "b", 2), b, source("s-c", "a"))]

    sources, rejected = read_sources(swapped, a, b)
    assert ({uid: one.path for uid, one in sources.items()}, rejected) == ({"s-a": "b", "s-b": "a"}, {})

    sources, rejected = read_sources(chain, a, b)
    assert {uid: one.path for uid, one in sources.items()} == {"s-a": "a", "s-b": "b"}
    assert rejected.keys() == {"s-a", "s-c"}
