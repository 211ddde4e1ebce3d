"""Durations as Kubernetes and Go write them: "1h30m", "500ms", "15s". Whole milliseconds inside."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MAXIMUM = 10 * 365 * 24 * HOUR
"""Ten years: beyond any retry or window that makes sense, and far from where arithmetic could overflow."""
MAX_LENGTH = 32

_UNITS = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1}
_PART = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?(ms|h|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_HINT = 'write it like "15s", "1h30m" or "500ms"'


def parse_duration(text: str) -> int:
    """Milliseconds of a duration in Go's notation (package time, ParseDuration).

    The units h, m, s and ms; fractions of them that are whole milliseconds; "0" alone needs no unit.
    Raises ValueError, saying what to write, for anything else: signs, other units, over ten years.
    """
    if text == "0":
        return 0
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a duration has at most {MAX_LENGTH} characters; {_HINT}")
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative; {_HINT}")
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"not a duration; {_HINT}")
    total = sum(_milliseconds(*part) for part in _PART.findall(text))
    if total > MAXIMUM:
        raise ValueError("a duration is at most 87600h (ten years)")
    return total


def _milliseconds(whole: str, fraction: str, unit: str) -> int:
    scale = int(10 ** len(fraction))
    value, rest = divmod(int(whole + fraction) * _UNITS[unit], scale)
    if rest:
        raise ValueError("a duration is at least a millisecond exact; write no smaller fractions than 1ms")
    return value


def format_duration(ms: int) -> str:
    """The shortest notation in whole units that `parse_duration` reads back as `ms`; ValueError below 0."""
    if ms < 0:
        raise ValueError("a duration cannot be negative")
    parts = []
    for unit, size in _UNITS.items():
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _from_wire(value: object) -> int:
    """A string from outside, or milliseconds from our own code."""
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAXIMUM:
        return value
    raise ValueError(f"not a duration; {_HINT}")


Duration = Annotated[
    int,
    BeforeValidator(_from_wire),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": MAX_LENGTH}),
]
"""Milliseconds inside, a duration string on the wire."""
