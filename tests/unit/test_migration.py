"""What a migration decides: whether it may begin, and whether a copy is what the source holds."""

import pytest

from hookcast_app.migration.plan import Found, Plan, may_abandon, plan
from hookcast_app.migration.sides import shown
from hookcast_app.migration.values import Piece, arguments, is_kept, piece
from hookcast_app.redis import Mark, Phase
from hookcast_core.errors import InvalidInput, Reason

FULL = Found("i", None, 5, 2)
EMPTY = Found(None, None, 0, 0)


def mark(phase: Phase, instance: str = "i") -> Mark:
    return Mark(phase, "run", instance, 0, "redis://peer")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (FULL, EMPTY),
        (FULL, Found("looked at", None, 0, 0)),
        (FULL._replace(mark=mark(Phase.COPYING)), Found("i", mark(Phase.FILLING), 3, 1)),
        (FULL._replace(mark=mark(Phase.DRAINING)), EMPTY),
        (FULL._replace(mark=mark(Phase.MOVED)), Found(None, mark(Phase.FILLING), 3, 1)),
    ],
    ids=["empty target", "target a server looked at", "interrupted", "interrupted at once", "interrupted at the end"],
)
def test_a_copy_is_made_where_nothing_can_be_lost(source: Found, target: Found) -> None:
    """Into an empty target, and again after an interruption: its copy was never served."""
    assert plan(source, target, force=False) is Plan.COPY


@pytest.mark.parametrize(
    ("source", "target", "detail"),
    [
        (EMPTY, EMPTY, "from: holds nothing of Hookcast's"),
        (FULL._replace(mark=mark(Phase.FILLING)), EMPTY, "from: holds a copy that is not whole"),
        (FULL, FULL._replace(instance="j"), "to: holds 5 keys of Hookcast's, 2 events among them"),
        (FULL, Found("j", mark(Phase.FILLING, "j"), 3, 1), "to: is being filled from another Redis, redis://peer"),
        (FULL._replace(mark=mark(Phase.MOVED)), EMPTY, "from: was moved to redis://peer"),
    ],
)
def test_what_could_lose_something_is_refused(source: Found, target: Found, detail: str) -> None:
    """With the option at fault and what is there."""
    with pytest.raises(InvalidInput) as caught:
        plan(source, target, force=False)

    assert str(caught.value).startswith(detail)
    assert caught.value.reason is Reason.MIGRATION_REFUSED


def test_force_goes_on_but_not_from_a_wrong_source() -> None:
    """It overrides what the target holds and that the source was left, not that there is nothing to move."""
    assert plan(FULL, FULL._replace(instance="j"), force=True) is Plan.COPY
    assert plan(FULL._replace(mark=mark(Phase.MOVED)), EMPTY, force=True) is Plan.COPY
    with pytest.raises(InvalidInput):
        plan(EMPTY, FULL, force=True)


def test_a_move_that_was_made_is_not_made_again() -> None:
    """Not even by force: the copy has been served, and may hold more by now."""
    for force in (False, True):
        assert plan(FULL._replace(mark=mark(Phase.MOVED)), FULL, force=force) is Plan.NOTHING


def test_only_a_source_that_was_not_left_can_be_kept() -> None:
    """Its copy may have accepted events once it was left."""
    assert may_abandon(FULL._replace(mark=mark(Phase.COPYING)))
    assert not may_abandon(FULL)
    assert not may_abandon(FULL._replace(mark=mark(Phase.FILLING)))
    with pytest.raises(InvalidInput, match="was moved to redis://peer"):
        may_abandon(FULL._replace(mark=mark(Phase.MOVED)))


def test_a_mark_is_read_as_it_was_written() -> None:
    """Also with a place that has spaces in it."""
    written = Mark(Phase.MOVED, "run", "instance", 1_700_000_000_000, "the embedded Redis in a b")

    assert Mark.read(written.write().encode()) == written
    assert written.reason().startswith("the data of this Redis were moved to the embedded Redis in a b (2023-11-14")
    assert "set HOOKCAST_REDIS_URL" in written.reason()
    assert "--abandon" in mark(Phase.COPYING).reason()
    assert "not all here yet" in mark(Phase.FILLING).reason()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:pa@ss@host:6379/1", "redis://host:6379/1"),
        ("rediss://host?password=secret", "rediss://host"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, told: str) -> None:
    """Neither user, password nor options."""
    assert shown("to", url) == told


def test_a_password_that_cannot_be_told_from_the_rest_is_refused() -> None:
    """One with a slash: what follows it would be shown."""
    with pytest.raises(InvalidInput) as caught:
        shown("to", "redis://user:1/secret@host")

    assert "secret" not in str(caught.value)


def part(kind: bytes, *items: tuple[bytes, ...], ttl: int = -1) -> Piece:
    return Piece(kind, ttl, b"", list(items), b"")


GONE = part(b"none")


@pytest.mark.parametrize(
    ("source", "copy", "kept"),
    [
        (part(b"hash", (b"a", b"1"), (b"b", b"2")), part(b"hash", (b"b", b"2"), (b"a", b"1")), True),
        (part(b"zset", (b"1", b"a"), (b"2", b"b")), part(b"zset", (b"2", b"b"), (b"1", b"a")), False),
        (part(b"string", (b"a",)), part(b"string", (b"b",)), False),
        (part(b"string", (b"a",)), GONE, False),
        (part(b"string", (b"a",), ttl=900_000), GONE, False),
        (part(b"string", (b"a",), ttl=50), GONE, True),
        (GONE, part(b"string", (b"a",), ttl=50), True),
        (part(b"string", (b"a",), ttl=9_000), part(b"string", (b"a",), ttl=9_500), True),
        (part(b"string", (b"a",), ttl=900_000), part(b"string", (b"a",), ttl=500_000), False),
        (part(b"string", (b"a",), ttl=9_000), part(b"string", (b"a",)), False),
        (part(b"string", (b"a",)), part(b"string", (b"a",), ttl=9_000), False),
    ],
)
def test_a_copy_is_compared_by_what_it_means(source: Piece, copy: Piece, kept: bool) -> None:  # noqa: FBT001
    """Hashes have no order, sorted sets have; what expires meanwhile is no loss; a time to live is."""
    assert is_kept(source, copy) is kept


def test_a_kind_that_is_unknown_is_never_left_behind_silently() -> None:
    """A newer Hookcast's, or a stranger's under our prefix."""
    with pytest.raises(ValueError, match="a list, which this version"):
        piece([b"list", -1, b"", [], b""])


def test_what_is_read_is_what_is_written() -> None:
    """Each item becomes one command's arguments."""
    assert arguments(piece([b"zset", 7, b"", [b"a", b"1"], b""]), is_first=True) == [
        b"zset",
        7,
        1,
        b"",
        1,
        2,
        b"1",
        b"a",
    ]
    assert piece([b"stream", -1, b"", [[b"1-1", [b"e", b"x"]]], b""]).items == [(b"1-1", b"e", b"x")]
