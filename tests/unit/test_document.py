"""The configuration as it travels: lines, sealing, and the Secrets that hold it."""

import random
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.chunks import CHUNK_BYTES, MAX_CHUNKS, Manifest, join, parse_manifest, split
from hookcast_core.configuration import Entry, SourceEntry
from hookcast_core.document import encode_line, identify, make_document, parse_document, parse_entry, parse_source
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.sealing import Sealer

KEY = "whsec_" + "A" * 43 + "="
LIMIT = 1_000_000


def entry(uid: str = "u1", **spec: object) -> Entry:
    """An entry with secrets in it."""
    return Entry.model_validate(
        {
            "uid": uid,
            "generation": 3,
            "namespace": "shop",
            "name": "orders",
            "source": "kubernetes",
            "spec": {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["order.*"]}, **spec},
            "url": "https://shop.example",
            "headers": [["X-Team", "shöp\\n"]],
            "signing_keys": [{"algorithm": "HMAC", "secret": KEY}],
        }
    )


def test_an_entry_is_read_back_with_its_secrets() -> None:
    """Another process works from the line alone."""
    written = entry(
        delivery={"retry": {"exponential": {"initial": "1s", "max": "1h", "attempts": 5}}, "ordering": "FIFO"},
        signing={"keys": [{"algorithm": "Ed25519", "secretRef": {"name": "n", "key": "k"}}]},
    )

    line = encode_line(written)

    assert b"\n" not in line
    assert parse_entry(line) == written
    assert parse_entry(line).signing_keys[0].secret.get_secret_value() == KEY
    assert encode_line(parse_entry(line)) == line


def source(uid: str = "s1", **spec: object) -> SourceEntry:
    """A source with secrets."""
    verification = {"scheme": "GitHub", "secretRefs": [{"name": "github", "key": key} for key in ("new", "old")]}
    return SourceEntry.model_validate(
        {
            "uid": uid,
            "generation": 2,
            "namespace": "shop",
            "name": "github",
            "source": "kubernetes",
            "spec": {"verification": verification, "event": {"type": "github.{body:action}"}, **spec},
            "secrets": ["s3cret\u2028", "old"],
        }
    )


def test_a_source_is_read_back_with_its_secrets() -> None:
    """As an entry is."""
    written = source(channel="gh:{header:X-GitHub-Event}", response={"status": 200}, path="p")

    line = encode_line(written)

    assert b"\n" not in line
    assert parse_source(line) == written
    assert [secret.get_secret_value() for secret in parse_source(line).secrets] == ["s3cret\u2028", "old"]
    assert encode_line(parse_source(line)) == line
    found = identify(line)
    assert found is not None
    assert (found.uid, found.generation) == ("s1", 2)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"event":', b'"window":"1m","event":', "spec.window"),
        (b'"scheme":"GitHub"', b'"scheme":"Twilio"', "spec.verification.scheme"),
        (b'"secrets":["', b'"secrets":["x","', None),
        (b'"spec":', b'"certificate":"x","spec":', "certificate"),
    ],
)
def test_what_a_source_s_reader_does_not_know_is_refused(old: bytes, new: bytes, field: str | None) -> None:
    """By name; no secret shows."""
    line = encode_line(source()).replace(old, new)

    with pytest.raises(InvalidInput) as caught:
        parse_source(line)

    assert (caught.value.field, caught.value.reason) == (field, Reason.INVALID_SOURCE)
    assert "s3cret" not in str(caught.value)


def test_defaults_are_not_written() -> None:
    """A field that an older reader lacks is in the line only where its user set it."""
    assert b"maxInFlight" not in encode_line(entry(delivery={"maxInFlight": 16}))
    assert b"maxInFlight" in encode_line(entry(delivery={"maxInFlight": 17}))


def test_a_field_of_a_newer_version_is_refused_by_name() -> None:
    """To pass it over could be to deliver otherwise than asked; which object it is can be told all the same."""
    line = encode_line(entry()).replace(b'"events":', b'"compression":"zstd","events":')

    with pytest.raises(InvalidInput) as caught:
        parse_entry(line)

    assert caught.value.field == "spec.compression"
    found = identify(line)
    assert found is not None
    assert (found.uid, found.generation) == ("u1", 3)


@pytest.mark.parametrize("line", [b"", b"[]", b'{"uid":1,"generation":1}', b'{"uid":"u"}', b"[" * 100_000])
def test_a_line_about_nothing(line: bytes) -> None:
    """Whatever a line holds, nothing but None or a refusal comes of it."""
    assert identify(line) is None
    for parse in (parse_entry, parse_source):
        with pytest.raises(InvalidInput):
            parse(line)


def test_a_document_is_the_same_in_whatever_order() -> None:
    """The revision tells content from content; the sequence is not part of it."""
    lines = [encode_line(entry(f"u{number}")) for number in range(20)]
    first = make_document(1, "origin", lines, [b'{"uid":"s"}'])
    random.Random(1).shuffle(lines)  # noqa: S311  only the order

    assert make_document(1, "origin", lines, [b'{"uid":"s"}']).to_bytes() == first.to_bytes()
    assert make_document(2, "other", lines, [b'{"uid":"s"}']).revision == first.revision
    assert make_document(1, "origin", lines, []).revision != first.revision
    assert parse_document(first.to_bytes()) == first


def test_entries_and_sources_are_told_apart() -> None:
    """A line that moves from one kind to the other is another content."""
    assert make_document(1, "o", [b"a", b"b"]).revision != make_document(1, "o", [b"a"], [b"b"]).revision


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]\n",
        b'{"format":2,"sequence":1,"origin":"","entries":0,"sources":0}\n',
        b'{"format":1,"sequence":-1,"origin":"","entries":0,"sources":0}\n',
        b'{"format":1,"sequence":true,"origin":"","entries":0,"sources":0}\n',
        b'{"format":1,"sequence":1,"origin":1,"entries":0,"sources":0}\n',
        b'{"format":1,"sequence":1,"origin":"","entries":0,"sources":0}',
        b'{"format":1,"sequence":1,"origin":"","entries":2,"sources":0}\n{}\n',
        b'{"format":1,"sequence":1,"origin":"","entries":1,"sources":0}\n{}',
    ],
)
def test_other_documents_are_refused(content: bytes) -> None:
    """Cut, of another format, or nothing of ours."""
    with pytest.raises(InvalidInput) as caught:
        parse_document(content)

    assert caught.value.reason is Reason.INVALID_CONFIGURATION


def test_sealed_content_can_be_opened_and_not_read() -> None:
    """With either key during a rotation; the time of sealing comes with it."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    token = Sealer([old]).seal(b"secret " * 100, 1_700_000_000)

    assert Sealer([new, old]).open(token, LIMIT) == (b"secret " * 100, 1_700_000_000)
    assert Sealer([old, new]).is_newest(token)
    assert not Sealer([new, old]).is_newest(token)
    assert b"secret" not in token


@pytest.mark.parametrize("change", [lambda token: token[:-4], lambda token: b"A" + token[1:], lambda _: b"\xff\n"])
def test_what_was_changed_is_refused(change: Callable[[bytes], bytes]) -> None:
    """Nothing unauthenticated is unpacked."""
    key = Fernet.generate_key().decode()

    with pytest.raises(InvalidInput, match="HOOKCAST_INTERNAL_KEY"):
        Sealer([key]).open(change(Sealer([key]).seal(b"content", 1)), LIMIT)


def test_too_much_is_not_unpacked() -> None:
    """A document that grows a thousandfold when it is unpacked is refused at the limit."""
    sealer = Sealer([Fernet.generate_key().decode()])

    with pytest.raises(InvalidInput, match="more than 1000 bytes"):
        sealer.open(sealer.seal(bytes(10_000_000), 1), 1000)


@given(size=st.sampled_from([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]))
def test_chunks_are_joined_again(size: int) -> None:
    """Whatever a longer set before left behind it."""
    token = random.Random(size).randbytes(size)  # noqa: S311  only content
    left = split(bytes(5 * CHUNK_BYTES), 6)

    chunks = [chunk.data() for chunk in split(token, 7)]
    chunks += [chunk.data() for chunk in left[len(chunks) :]]

    assert join([*chunks, None]) == (7, token)


def test_a_set_that_is_not_whole_is_none() -> None:
    """One chunk of another sequence, a missing one, a damaged one."""
    chunks = [chunk.data() for chunk in split(bytes(3 * CHUNK_BYTES), 7)]
    other = [chunk.data() for chunk in split(bytes(3 * CHUNK_BYTES), 8)]

    assert join([]) is None
    assert join([None] * 8) is None
    assert join([chunks[0], other[1], chunks[2]]) is None
    assert join([chunks[0], None, chunks[2]]) is None
    assert join(chunks[:2]) is None
    assert join([chunks[0], {**chunks[1], "content": b"x"}, chunks[2]]) is None
    assert join([{**chunks[0], "count": b"many"}, *chunks[1:]]) is None


def test_too_many_chunks_are_refused() -> None:
    """The ceiling is named before anything is written."""
    with pytest.raises(InvalidInput) as caught:
        split(bytes(MAX_CHUNKS * CHUNK_BYTES + 1), 1)

    assert caught.value.reason is Reason.CAPACITY_EXCEEDED


def test_a_manifest_is_read_back() -> None:
    """Anything else, such as the Secret before its first use, is none."""
    manifest = Manifest("b", 7, "d" * 64, "r" * 64)

    assert parse_manifest(manifest.data()) == manifest
    assert parse_manifest({}) is None
    assert parse_manifest({**manifest.data(), "set": b"c"}) is None
    assert parse_manifest({**manifest.data(), "sequence": b"x"}) is None
