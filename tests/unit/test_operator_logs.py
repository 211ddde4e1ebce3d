"""The operator's log when the same goes wrong again and again."""

import pytest
import structlog

from hookcast_operator.logs import Repeats


def test_what_repeats_is_written_once_a_minute() -> None:
    """With the number of those that were left out; another line is another."""
    now = 0.0
    repeats = Repeats(lambda: now)

    def said(problem: str) -> dict[str, object] | None:
        try:
            return dict(repeats(None, "warning", {"event": "cannot list", "problem": problem}))
        except structlog.DropEvent:
            return None

    assert said("away") == {"event": "cannot list", "problem": "away"}
    now = 59.0
    assert said("away") is None
    assert said("away") is None
    assert said("slow") is not None
    now = 60.0
    assert said("away") == {"event": "cannot list", "problem": "away", "repeated": 2}
    now = 120.0
    assert said("away") == {"event": "cannot list", "problem": "away"}


def test_what_is_remembered_is_bounded() -> None:
    """Lines that are all different."""
    repeats = Repeats(lambda: 0.0)
    for number in range(5_000):
        repeats(None, "info", {"event": str(number)})

    with pytest.raises(structlog.DropEvent):
        repeats(None, "info", {"event": "4999"})
    assert repeats(None, "info", {"event": "0"}) == {"event": "0"}
