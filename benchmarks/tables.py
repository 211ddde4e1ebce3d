"""Markdown tables."""

from collections.abc import Iterable, Sequence


def rows(columns: Sequence[str], cells: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table with these headings, and an empty one after it."""
    return [_line(columns), "|" + "---|" * len(columns), *map(_line, cells), ""]


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
