"""How large a filter's regular expression is, estimated from above before the regex library compiles it. Pure.

Matching is linear in the text, but each step costs up to one visit to every state, and `{n,m}` multiplies states.
"""

import re

MAX_PATTERN = 256
MAX_STATES = 400

_ENOUGH = 10**6
"""Where counting may stop: far over the limit."""
_EXTENDED = re.compile(r"\(\?[a-zA-Z-]*x")
_PIECE = re.compile(
    r"""(?P<repetition>\{\s*(?P<least>[0-9]+)\s*(?:,\s*(?P<most>[0-9]*)\s*)?\}|\{\s*,\s*(?P<only>[0-9]+)\s*\})
    |(?P<flags>\(\?[a-zA-Z-]+\))
    |(?P<open>\((?:\?(?:P?<[^>]*>|[a-zA-Z-]*:))?)
    |(?P<close>\))
    |(?P<quantifier>[*+?])
    |(?P<escape>\\[pPxuU]\{[^}]*\}|\\.)
    |(?P<class>\[\^?\]?)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def states(pattern: str) -> int:
    """An upper estimate of the states of `pattern`, each counted repetition written out.

    ValueError says what to write instead where the pattern is over a limit.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a regular expression has at most {MAX_PATTERN} characters here")
    if _EXTENDED.search(pattern):
        raise ValueError("the flag x is not available; write the regular expression without spaces")
    count = _count(pattern)
    if count > MAX_STATES:
        raise ValueError(f"the regular expression repeats too much; {MAX_STATES} characters at most, written out")
    return count


def _count(pattern: str) -> int:
    """Add up atoms level by level; a counted repetition multiplies the atom or the group before it."""
    levels, last, position = [0], 0, 0
    while position < len(pattern):
        piece = _PIECE.match(pattern, position)
        if piece is None:  # pragma: no cover  the last alternative takes any character
            break
        position = piece.end()
        if piece["repetition"]:
            most = _most(piece)
            levels[-1] += last * (most - 1)
            last = min(last * most, _ENOUGH)
        elif piece["open"]:
            levels.append(0)
        elif piece["close"]:
            # One that closes nothing is an error, which the regex library reports.
            last = levels.pop()
            levels = levels or [0]
            levels[-1] += last
        elif not piece["quantifier"] and not piece["flags"]:
            last = 1
            levels[-1] += 1
            position = _class_end(pattern, position) if piece["class"] else position
    return sum(levels)


def _most(repetition: re.Match[str]) -> int:
    numbers = (repetition[name] for name in ("least", "most", "only"))
    return max(1, *(int(number[:7]) for number in numbers if number))


def _class_end(pattern: str, position: int) -> int:
    """Where the character class ends whose opening ended at `position`. Classes nest."""
    depth = 1
    while position < len(pattern) and depth:
        piece = _PIECE.match(pattern, position)
        if piece is not None and (piece["escape"] or piece["class"]):
            depth += bool(piece["class"])
            position = piece.end()
        else:
            depth -= pattern[position] == "]"
            position += 1
    return position
