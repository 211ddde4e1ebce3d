"""Which of two configurations is in force."""

import pytest

from hookcast_core.versions import Verdict, Version, judge

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
