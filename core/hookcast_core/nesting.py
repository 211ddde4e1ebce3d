"""How deep JSON text is nested: what others decode by recursion has to be bounded."""

import re

MAX_DEPTH = 64
"""Levels of what publishers send."""
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def is_too_deep(text: bytes) -> bool:
    """Whether valid JSON text has more than MAX_DEPTH levels."""
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False
