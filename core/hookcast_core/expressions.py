"""What a filter's CEL expression may contain, checked on its tokens before the CEL library sees it. Pure.

The library has no limits of its own: long or deep expressions crash the process, nested macros run for minutes,
maps take all memory. So the text is taken apart here, everything that is not on a list is refused with its
line and column, and what remains has a cost that can be known from an event's size (`cost`).
Follows the CEL language definition, "Syntax" and "Macros".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hookcast_core.names import shown_name

VARIABLES = frozenset({"type", "source", "subject", "time", "data"})
MACROS = frozenset({"all", "exists", "exists_one", "filter"})
FUNCTIONS = frozenset({"has", "size", "string", "int", "uint", "double", "timestamp", "duration"})
METHODS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches"}
    | {f"get{part}" for part in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")}
    | {f"get{part}" for part in ("Hours", "Minutes", "Seconds", "Milliseconds")}
)
MAX_EXPRESSION = 1_024
MAX_DEPTH = 16
MAX_PLUS = 16
MAX_MACROS = 8

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>[bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
# A raw text's backslashes escape nothing, so that it can end where the pattern above goes on.
_RAW = re.compile(
    r"""(?P<text>(?:[rR][bB]?|[bB][rR])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*'))""",
    re.DOTALL,
)
_LITERALS = frozenset({"true", "false", "null"})
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())
_INSTEAD = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "===": "=="}


class Refusal(ValueError):  # noqa: N818  says what it is
    """Why an expression is refused: line and column (both from 1), what is wrong, what to write instead."""

    def __init__(self, position: tuple[int, int], detail: str) -> None:
        super().__init__(f"{position[0]}:{position[1]}: {detail}")


class Token(NamedTuple):
    """A piece of an expression."""

    kind: str
    text: str
    at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What of an expression decides how long it can run.

    `quadratic`: a macro that costs items times data: filter, or one whose body looks at the whole data again.
    `fields`: the members of data that are looked at, or None for all of it.
    `patterns`: each matches() with the source text of its regular expression and whether a macro repeats it.
    """

    tokens: tuple[Token, ...]
    plus: int
    macros: int
    quadratic: bool
    fields: frozenset[str] | None
    patterns: tuple[tuple[Token, bool], ...]


@dataclass(slots=True)
class _Macro:
    name: str
    depth: int
    variable: str


def tokenize(expression: str) -> list[Token]:
    """The tokens of an expression, without spaces and comments; Refusal for what CEL does not know."""
    return list(_tokens(expression))


def _tokens(expression: str) -> Iterator[Token]:
    line, start, position = 1, 0, 0
    while position < len(expression):
        match = _RAW.match(expression, position) or _TOKEN.match(expression, position)
        at = (line, position - start + 1)
        if match is None:
            raise Refusal(at, _unknown_character(expression, position))
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match.group(), at)
        lines = match.group().count("\n")
        if lines:
            line, start = line + lines, position + match.group().rindex("\n") + 1
        position = match.end()


def _unknown_character(expression: str, position: int) -> str:
    character = expression[position]
    if character in "\"'":
        return "this text has no end; close it with the same quote"
    if character in _INSTEAD:
        return f"{character} is not CEL; write {_INSTEAD[character]}"
    return f"{character!r} is not CEL"


def check_expression(expression: str) -> Shape:
    """The shape of an expression that keeps to the limits; Refusal for one that does not.

    It may still have errors of syntax, which the library then finds and which cannot harm it.
    """
    if len(expression) > MAX_EXPRESSION:
        raise Refusal((1, MAX_EXPRESSION + 1), f"at most {MAX_EXPRESSION} characters; this has {len(expression)}")
    tokens = tokenize(expression)
    if not tokens:
        raise Refusal((1, 1), "the expression is empty; leave the filter out to take every event")
    return _Checker(tokens).check()


class _Checker:
    """Walks an expression's tokens once."""

    def __init__(self, tokens: list[Token]) -> None:
        # Two at each end, so that neighbours can be looked at without asking whether they exist.
        edge = Token("edge", "", tokens[-1].at)
        self._tokens = [edge, edge, *tokens, edge, edge, edge]
        self._count = len(tokens)
        self._open: list[str] = []
        self._macro: _Macro | None = None
        self._macros: list[str] = []
        self._plus = 0
        self._data_in_macro = False
        self._fields: set[str] = set()
        self._whole_data = False
        self._patterns: list[tuple[Token, bool]] = []

    def check(self) -> Shape:
        for index in range(2, self._count + 2):
            token = self._tokens[index]
            if token.kind == "name":
                self._name(index, token)
            elif token.kind == "operator":
                self._operator(index, token)
        fields = None if self._whole_data else frozenset(self._fields)
        quadratic = self._data_in_macro or "filter" in self._macros
        return Shape(
            tuple(self._tokens[2 : self._count + 2]),
            self._plus,
            len(self._macros),
            quadratic,
            fields,
            tuple(self._patterns),
        )

    def _operator(self, index: int, token: Token) -> None:
        if token.text in _OPENING:
            self._open.append(_OPENING[token.text])
            if len(self._open) > MAX_DEPTH:
                raise Refusal(token.at, f"brackets are nested more than {MAX_DEPTH} deep")
        elif token.text in _CLOSING:
            self._close(token)
        elif token.text == "+":
            self._plus += 1
            if self._plus > MAX_PLUS:
                raise Refusal(token.at, f"at most {MAX_PLUS} additions")
        elif token.text == "." and not self._ends_operand(index - 1):
            raise Refusal(token.at, "a dot follows nothing; write the variable's name before it")

    def _ends_operand(self, index: int) -> bool:
        token = self._tokens[index]
        return token.kind in {"name", "text"} or token.text in _CLOSING

    def _close(self, token: Token) -> None:
        if not self._open or self._open.pop() != token.text:
            raise Refusal(token.at, f"{token.text} closes nothing that is open")
        if self._macro and len(self._open) <= self._macro.depth:
            self._macro = None

    def _name(self, index: int, token: Token) -> None:
        after_dot = self._tokens[index - 1].text == "."
        following = self._tokens[index + 1].text
        if following == "(":
            self._call(index, token, after_dot=after_dot)
        elif following == "{":
            raise Refusal(token.at, f"{shown_name(token.text)} is no type; messages cannot be made here")
        elif not after_dot:
            self._variable(index, token)

    def _call(self, index: int, token: Token, *, after_dot: bool) -> None:
        if (after_dot and token.text in MACROS) or token.text == "existsOne":
            self._begin_macro(index, token)
        elif token.text not in (METHODS if after_dot else FUNCTIONS):
            if token.text == "map":
                # It copies what it has made for each item, and a chain of maps doubles it each time.
                raise Refusal(token.at, "map is not available; test the items with exists(item, …) or all(item, …)")
            kind = "method" if after_dot else "function"
            known = METHODS | MACROS if after_dot else FUNCTIONS
            name = shown_name(token.text)
            raise Refusal(token.at, f"there is no {kind} {name}; use one of {', '.join(sorted(known))}")
        elif token.text == "matches":
            self._matches(index)

    def _begin_macro(self, index: int, token: Token) -> None:
        variable = self._tokens[index + 2]
        if self._macro:
            raise Refusal(token.at, f"{token.text} is inside {self._macro.name}; macros cannot be nested")
        if variable.kind != "name" or self._tokens[index + 3].text != "," or variable.text in VARIABLES | _LITERALS:
            raise Refusal(token.at, f"write {token.text}(item, condition on item), with a name of its own for item")
        self._macros.append(token.text)
        if len(self._macros) > MAX_MACROS:
            raise Refusal(token.at, f"at most {MAX_MACROS} macros")
        self._macro = _Macro(token.text, len(self._open), variable.text)

    def _matches(self, index: int) -> None:
        pattern = self._tokens[index + 2]
        if pattern.kind != "text" or self._tokens[index + 3].text != ")":
            raise Refusal(pattern.at, 'matches takes one text in quotes, such as matches("^A[0-9]+$")')
        self._patterns.append((pattern, self._macro is not None))

    def _variable(self, index: int, token: Token) -> None:
        if token.text in _LITERALS or token.text == "in":
            return
        if self._macro and token.text == self._macro.variable:
            return
        if token.text not in VARIABLES:
            raise Refusal(token.at, _unknown_variable(token.text, self._tokens[index + 1].text))
        if token.text == "data":
            self._data(index)

    def _data(self, index: int) -> None:
        self._data_in_macro = self._data_in_macro or self._macro is not None
        dot, member, following = self._tokens[index + 1 : index + 4]
        if dot.text == "." and member.kind == "name" and following.text != "(":
            self._fields.add(member.text)
        else:
            self._whole_data = True


def check_references(references: Mapping[str, Iterable[str]], tokens: Iterable[Token]) -> None:
    """Refusal if the library sees names in an expression that are no tokens of it: then its text was misread here."""
    known = {token.text for token in tokens if token.kind == "name"}
    for name in (*references["variables"], *references["functions"]):
        if name.isidentifier() and name not in known:
            raise Refusal((1, 1), f"{shown_name(name)} cannot be used here")


def _unknown_variable(name: str, following: str) -> str:
    if name in _INSTEAD:
        return f"{name} is not CEL; write {_INSTEAD[name]}"
    name = shown_name(name)
    if following == ".":
        return f"there is no variable {name}; an event's own fields are below data: data.{name}"
    return f"there is no variable {name}; use type, source, subject, time, data, or put quotes around a text"
