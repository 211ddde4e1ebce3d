"""Templates of webhook sources: text with references into a request. Pure.

    template  = 1*( literal / "{" reference "}" )
    reference = "header:" name                  ; a header of the request, in any case (RFC 9110, 5.1)
              / "body:" step *( "." step )      ; a member of an object by its key, an element of an array by its index

There is no escape: what may stand as a literal has no braces. Reading a request by a template is not done here. Every
check takes time in proportion to the text and raises ValueError, which says where and what to write; the text itself
is never repeated.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_TEMPLATE = 256
MAX_REFERENCE = 128
MAX_REFERENCES = 8
MAX_STEPS = 16

REFUSED_REFERENCES = frozenset({"authorization", "proxy-authorization", "cookie", "x-gitlab-token"})
"""Headers whose value is a credential: an event, which many may read, must not show it."""

_HINT = "write {header:NAME} or {body:PATH}"
_REFERENCE = re.compile(r"(header):([A-Za-z0-9_-]+)|(body):([A-Za-z0-9_$@-]+(?:\.[A-Za-z0-9_$@-]+)*)")


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of a request: `path` is one header's name in lower case, or the steps into the decoded body."""

    kind: Literal["header", "body"]
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template's parts, literals and references, in order; no part is empty."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references, in order."""
        return tuple(part for part in self.parts if isinstance(part, Reference))

    @property
    def literal(self) -> str:
        """All that is not a reference, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Alphabet:
    """What a template's literals are made of; `name` and `characters` are for people."""

    name: str
    characters: str
    pattern: re.Pattern[str]


TYPE = Alphabet("an event type", 'letters, digits, ".", "_" and "-"', re.compile(r"[A-Za-z0-9._-]*"))
CHANNEL = Alphabet("a channel's name", 'letters, digits and any of "_-.:@#,"', re.compile(r"[A-Za-z0-9_\-.:@#,]*"))


def parse_template(text: str, alphabet: Alphabet) -> Template:
    """The parts of a template; ValueError with the place (from 1) of what is wrong, and what to write there."""
    if not 0 < len(text) <= MAX_TEMPLATE:
        raise ValueError(f"a template has 1 to {MAX_TEMPLATE} characters")
    template = Template(tuple(_parts(text, alphabet)))
    if len(template.references) > MAX_REFERENCES:
        raise ValueError(f"a template has at most {MAX_REFERENCES} references")
    return template


def parse_reference(text: str) -> Reference:
    """`header:NAME` or `body:PATH`, as it stands between braces; ValueError says what to write instead."""
    return _reference(text, "write header:NAME or body:PATH, without braces")


def _parts(text: str, alphabet: Alphabet) -> Iterator[str | Reference]:
    position = 0
    while position < len(text):
        if text[position] == "{":
            end = text.find("}", position)
            if end < 0:
                raise ValueError(f'the "{{" at character {position + 1} is not closed; {_HINT}')
            yield _reference(text[position + 1 : end], f"not a reference at character {position + 1}; {_HINT}")
            position = end + 1
        else:
            found = alphabet.pattern.match(text, position)
            end = found.end() if found else position
            if end == position:
                raise ValueError(
                    f"character {position + 1} cannot stand in {alphabet.name}; "
                    f"write {alphabet.characters}, and references like {{header:NAME}} or {{body:PATH}}"
                )
            yield text[position:end]
            position = end


def _reference(text: str, hint: str) -> Reference:
    found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE else None
    if found is None:
        raise ValueError(
            f'{hint}, where NAME has letters, digits, "-" and "_", and PATH has keys of such characters, '
            f'"$" and "@", with dots between them; at most {MAX_REFERENCE} characters'
        )
    if header := found[2]:
        if header.lower() in REFUSED_REFERENCES:
            raise ValueError(f"the header {header.lower()} holds a credential, which an event must not show")
        return Reference("header", (header.lower(),))
    steps = tuple(found[4].split("."))
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a path into the body has at most {MAX_STEPS} keys")
    return Reference("body", steps)
