"""Names of channels and patterns of them."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.channels import check_channel_regex, matches_regex, matches_wildcard

_LETTERS = st.text("ab:#*", max_size=12)


@given(_LETTERS, _LETTERS.map(lambda text: text.replace("*", "")))
def test_a_wildcard_stands_for_any_characters(pattern: str, channel: str) -> None:
    """As a regular expression with `.*` would have it."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), channel) is not None

    assert matches_wildcard(pattern, channel) is expected


def test_many_wildcards_stay_fast() -> None:
    """What a backtracking matcher would take years for."""
    start = time.process_time()

    assert not matches_wildcard("*a" * 100 + "*b", "a" * 255)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    ("pattern", "channel", "expected"),
    [
        (r"^posts_[\d]+$", "posts_12", True),
        (r"^posts_[\d]+$", "xposts_12", False),
        ("posts", "my_posts", True),
        (r"^news:\w+$", "news:a", True),
        ("^news:[^:]+$", "news:a:b", False),
        ("^news:.*$", "news:a:b", True),
        ('^"$', "a", False),
        (r"^a\.b$", "a.b", True),
        (r"^a\.b$", "axb", False),
        ("(a+)+$", "a" * 254 + "b", False),
    ],
)
def test_regular_expressions(pattern: str, channel: str, expected: bool) -> None:  # noqa: FBT001
    """Found anywhere in the name unless tied to its ends."""
    check_channel_regex(pattern)

    assert matches_regex(pattern, channel) is expected


@pytest.mark.parametrize(
    "pattern",
    ["", "(", "[", "a{65}", "(a{9}){9}", r"(?u)\w", r"(?iu:\w)", r"\w.", "ä", "a\n", "(?x) a", "a" * 300, r"\d[^a]"],
)
def test_what_could_not_be_run_fast_is_refused(pattern: str) -> None:
    """Whoever signs tokens is told, not whoever connects with one."""
    with pytest.raises(ValueError, match=r"regular expression|flag"):
        check_channel_regex(pattern)
