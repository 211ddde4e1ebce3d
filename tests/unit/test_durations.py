"""Durations in Go's notation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hookcast_core.durations import MAXIMUM, Duration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("15s", 15_000),
        ("500ms", 500),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("0.25s", 250),
        ("1m1m", 120_000),
        ("87600h", MAXIMUM),
    ],
)
def test_go_notation_is_read_as_milliseconds(text: str, milliseconds: int) -> None:
    """What Go's ParseDuration reads, in units down to ms, is read the same."""
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "s",
        "-1s",
        "+1s",
        "1 s",
        "1d",
        "NaNs",
        "1e3s",
        "inf",
        ".5s",
        "1.s",
        "0.0001s",
        "1us",
        "٣s",
        "1s\n",
        "87601h",
        "1" * 13 + "h",
        "9" * 40 + "s",
    ],
)
def test_anything_else_is_refused_with_the_fix(text: str) -> None:
    """Signs, other units and absurd lengths raise ValueError with a message that shows a duration."""
    with pytest.raises(ValueError, match=r"\d(s|h|ms)"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=MAXIMUM))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    """format_duration and parse_duration are inverse, for every length."""
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@given(st.text(alphabet="0123456789.hms -+eN", max_size=40))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    """Hostile texts end in a number within the limits or a ValueError."""
    try:
        milliseconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= milliseconds <= MAXIMUM


def test_negative_lengths_cannot_be_written() -> None:
    """format_duration refuses what parse_duration could not read."""
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)


def test_the_wire_has_texts_and_the_model_milliseconds() -> None:
    """The pydantic type reads and writes texts, takes milliseconds from code, and describes itself as a string."""
    adapter: TypeAdapter[int] = TypeAdapter(Duration)

    assert adapter.validate_python("90s") == 90_000
    assert adapter.validate_python(90_000) == 90_000
    assert adapter.dump_json(90_000) == b'"1m30s"'
    assert adapter.json_schema() == {"type": "string", "maxLength": 32}


@pytest.mark.parametrize("value", [True, -1, MAXIMUM + 1, 1.5, None, [], "soon"])
def test_other_values_are_refused(value: object) -> None:
    """The pydantic type takes nothing that is not a duration."""
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(value)
