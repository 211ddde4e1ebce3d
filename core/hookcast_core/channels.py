"""Names of channels, and patterns of such names that tokens may hold. Pure, and linear in what it is given."""

import json
import re
from functools import lru_cache

from hookcast_core.cel_library import cel
from hookcast_core.regexes import states

MAX_NAME = 255
"""Characters, all of them ASCII."""
NAME_RULE = f"a channel's name is 1 to {MAX_NAME} letters, digits and _-.:@#"
"""What is told to whoever writes another one."""
MAX_STATES = 64
"""Of a regular expression, each counted repetition written out. Compiling takes up to 6 µs a state, at each look."""
_REMEMBERED = 4_096
_NAME = re.compile(r"[A-Za-z0-9_\-.:@]*(?:#[A-Za-z0-9_\-.:@#,]*)?")
_PRINTABLE = re.compile(r"[ -~]+")
_UNICODE_FLAG = re.compile(r"\(\?[a-zA-Z-]*u")
_UNICODE_CLASS = re.compile(r"\\[wWdDsSpPbBxuU]")


def is_channel_name(name: str) -> bool:
    """Whether `name` can be a channel: 1 to 255 of letters, digits and `_-.:@#`, and `,` after a `#`."""
    return 0 < len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def matches_wildcard(pattern: str, channel: str) -> bool:
    """Whether a name is as `pattern` says, in which `*` stands for any characters, or none; all else for itself."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == channel
    *middle, last = rest
    at, end = len(first), len(channel) - len(last)
    if at > end or not channel.startswith(first) or not channel.endswith(last):
        return False
    for piece in middle:
        found = channel.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def check_channel_regex(pattern: str) -> None:
    r"""Refuses what `matches_regex` could not run, or not fast. ValueError says why.

    Names are ASCII, and so are `\w`, `\d` and `\s` here: their Unicode kinds take milliseconds to compile.
    """
    _program(pattern)


@lru_cache(maxsize=_REMEMBERED)
def matches_regex(pattern: str, channel: str) -> bool:
    """Whether a checked regular expression is found in a name; `^` and `$` tie it to the whole.

    Linear in the name (the syntax is that of RE2). ValueError as `check_channel_regex`.
    """
    return bool(_program(pattern).execute({"channel": channel}))


@lru_cache(maxsize=_REMEMBERED // 4)
def _program(pattern: str) -> cel.Program:
    if not _PRINTABLE.fullmatch(pattern):
        raise ValueError("a regular expression for channels has printable ASCII characters only")
    if _UNICODE_FLAG.search(pattern):
        raise ValueError("the flag u is not available; names of channels are ASCII")
    if states(pattern) > MAX_STATES:
        raise ValueError(f"the regular expression repeats too much; {MAX_STATES} characters at most, written out")
    try:
        return _compiled(f"(?-u){pattern}")
    except RuntimeError:
        # Without Unicode `.` and `[^a]` are refused: they could match a part of a character.
        if _UNICODE_CLASS.search(pattern):
            raise ValueError("not a regular expression, or one that mixes `.` or `[^…]` with classes") from None
    try:
        return _compiled(pattern)
    except RuntimeError:
        raise ValueError("not a regular expression") from None


def _compiled(pattern: str) -> cel.Program:
    program = cel.compile(f"channel.matches({json.dumps(pattern)})")
    program.execute({"channel": ""})  # only now is the pattern looked at
    return program
