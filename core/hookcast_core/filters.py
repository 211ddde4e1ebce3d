"""Which events a subscription takes: patterns of event types, and filters in CEL.

Pure. A filter is compiled and judged once, when the configuration is validated; an event is converted for CEL once,
however many filters look at it. What a filter may contain stands in `expressions`; here its cost on one event is
bounded too, so that neither a filter nor an event can hold up the process.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from hookcast_core.cel_library import cel
from hookcast_core.errors import HookcastError, InvalidInput, Reason
from hookcast_core.expressions import Refusal, Shape, Token, check_expression, check_references
from hookcast_core.regexes import states

MAX_PATTERN = 130
MAX_COST = 8_000_000
"""What one filter may cost on one event, in units of about 25 ns (measured on one 2.x GHz core): 0.2 s at worst."""
TOO_LARGE = (
    "the event's data, or that of all events in its request, is too large for this filter; use fewer conditions, "
    "no data inside macros, and [0-9] or [a-z] rather than \\d or \\w"
)
MAX_COMPILATION = 2_000_000
"""What the regular expressions of one filter may cost to compile, in the same units: 0.05 s at worst."""
CONVERSION_COST = 3
"""What it costs to convert an event for CEL, for each byte of its data, in the same units."""
TOO_LARGE_PATTERNS = (
    "the filter's regular expressions are too large; use fewer repetitions, and [0-9] or [a-z] rather than \\d or \\w"
)
_CACHED = 16_384
_DETAIL = 200

_PATTERN = re.compile(r"\*|[A-Za-z0-9._-]+?(?:\.\*)?")
# Classes of Unicode's size, each some 0.2 ms to compile; an escaped spelling of the backslash is taken for one too.
_UNICODE_CLASS = re.compile(r"\\[wWdDsSpPbBxuU0-9]")
_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")


class FilterError(HookcastError):
    """A filter could not be evaluated on an event; the message says why. It counts as no match."""


class DataSize(NamedTuple):
    """How large an event's data is: an upper bound of the items in its arrays and objects, and bytes of JSON."""

    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class EventContext:
    """An event converted for CEL; made once and used by any number of filters, in any thread."""

    context: cel.Context
    size: DataSize


def check_pattern(pattern: str) -> str:
    """The pattern itself, if it is a pattern of event types: exact, `prefix.*` or `*`; ValueError otherwise."""
    if len(pattern) > MAX_PATTERN or not _PATTERN.fullmatch(pattern):
        raise ValueError('write an event type ("user.created"), a prefix ("order.*") or "*"')
    return pattern


def matches_type(pattern: str, event_type: str) -> bool:
    """Whether an event of that type fits: `order.*` takes everything below `order.`, but not `order` itself."""
    if pattern == "*":
        return True
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern


def measure(data_json: bytes) -> DataSize:
    """The size of data from its JSON text. Commas within texts count too: it is an upper bound."""
    return DataSize(data_json.count(b",") + 1, len(data_json))


def event_context(
    type: str,  # noqa: A002  the attribute's name
    source: str,
    subject: str | None,
    time: str,
    data: Any,
    size: DataSize | None = None,
) -> EventContext:
    """An event's five variables for CEL: `subject` may be null, `time` is the text (use `timestamp(time)`).

    `data` is decoded JSON of bounded depth; `size` saves measuring it here. FilterError if CEL cannot hold it.
    """
    try:
        context = cel.Context({"type": type, "source": source, "subject": subject, "time": time, "data": data})
        return EventContext(context, size or measure(json.dumps(data).encode()))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FilterError(_short(f"the event's data cannot be given to filters: {error}")) from None


class Filter:
    """A compiled filter; immutable, shared by all subscriptions with the same expression, usable in any thread."""

    def __init__(self, program: cel.Program, shape: Shape, pattern_states: tuple[int, ...]) -> None:
        self._program = program
        self._shape = shape
        self._tokens = len(shape.tokens)
        # Each visit of a state is some 7 ns, a quarter of a unit.
        self._states = sum(pattern_states)
        self._compiles = sum(
            _compile_cost(token, count)
            for (token, is_repeated), count in zip(shape.patterns, pattern_states, strict=True)
            if is_repeated
        )

    @property
    def fields(self) -> frozenset[str] | None:
        """The members of data that it looks at, so that others need not be converted; None for all of them."""
        return self._shape.fields

    def matches(self, context: EventContext) -> bool:
        """True only if the expression is true of the event. FilterError says why it has no value."""
        if self.cost(context.size) > MAX_COST:
            raise FilterError(TOO_LARGE)
        return self.evaluate(context)

    def evaluate(self, context: EventContext) -> bool:
        """As `matches`, for whoever has looked at the cost."""
        try:
            return self._program.execute(context.context) is True
        except KeyError as error:
            raise FilterError(_short(f"the event has no field {error}; test for it with has(…)")) from None
        except Exception as error:  # noqa: BLE001  the library raises many kinds, all about the expression and the event
            raise FilterError(_short(str(error))) from None

    def cost(self, size: DataSize) -> int:
        """An upper estimate of an evaluation's time, in the units of `MAX_COST`; measured, see the tests.

        Reading a list copies it and `+` copies both sides, so that even without macros it is tokens times items.
        """
        shape = self._shape
        cost = size.items * (self._tokens // 4 + 2 * shape.plus**2) + size.bytes * self._states // 4
        if shape.macros:
            cost += size.items * (self._tokens**2 // 8 + self._compiles)
        if shape.quadratic:
            cost += size.items * size.bytes * self._tokens // 4
        return cost


def _compile_cost(token: Token, count: int) -> int:
    """What a regular expression of so many states costs to compile, which inside a macro is done anew per item."""
    return 500 + count * (10_000 if _UNICODE_CLASS.search(token.text) else 400)


def compile_filter(expression: str, field: str = "events.filter") -> Filter:
    """The filter of a CEL expression. InvalidInput(InvalidFilter) with `line:column: what is wrong`, both from 1."""
    try:
        return _compile(expression)
    except Refusal as refusal:
        raise InvalidInput(Reason.INVALID_FILTER, field, str(refusal)) from None


@lru_cache(maxsize=_CACHED)
def _compile(expression: str) -> Filter:
    shape = check_expression(expression)
    try:
        program = cel.compile(expression)
    except ValueError as error:
        raise _syntax_error(str(error)) from None
    check_references(program.references(), shape.tokens)
    found = []
    cost = 0
    for token, _ in shape.patterns:
        try:
            found.append(states(_text_of(token.text)))
            cost += _compile_cost(token, found[-1])
            if cost <= MAX_COMPILATION:
                cel.compile(f'"".matches({token.text})').execute()
        except (ValueError, RuntimeError) as error:
            raise Refusal(token.at, _short(_regex_problem(str(error)))) from None
        if cost > MAX_COMPILATION:
            raise Refusal(token.at, TOO_LARGE_PATTERNS)
    return Filter(program, shape, tuple(found))


def _text_of(literal: str) -> str:
    """The text that a literal in CEL stands for."""
    text = cel.compile(literal).execute()
    if not isinstance(text, str):
        raise ValueError("matches takes a text, not bytes")  # noqa: TRY004  one kind of refusal
    return text


def _regex_problem(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip().startswith("error:")]
    if "exceeds size limit" in message:
        return TOO_LARGE_PATTERNS
    return f"not a regular expression: {lines[0].removeprefix('error: ')}" if lines else message


def _syntax_error(message: str) -> Refusal:
    """The library's first complaint, in our form."""
    place = _PLACE.search(message)
    if place is None:
        return Refusal((1, 1), "not a CEL expression")
    return Refusal((int(place[1]), int(place[2])), _short(place[3].removeprefix("Syntax error: ")))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _DETAIL else text[:_DETAIL] + "…"
