"""From the text of a manifest file to decoded documents. Pure; the text may be hostile.

YAML 1.1 by the safe loader, as Kubernetes' tools read it, except that times stay texts. Size, depth, what aliases
expand to, and keys given twice are refused before or while values are made.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml

MAX_BYTES = 1_048_576
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Values in one document, with every alias written out."""

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_EMPTY = re.compile(r"(?:\s|#[^\n]*(?:\n|$)|%[^\n]*(?:\n|$)|\.\.\.(?=\s|$))*")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class InvalidManifest(ValueError):  # noqa: N818  named for what the user did
    """A document that is not YAML, or more than we take; the message has the line and no value."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, its index (from 1), and its value or why it has none."""

    index: int
    value: Any = None
    error: str | None = None


class _Loader(yaml.CSafeLoader):
    """The safe loader, without times and without keys given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                raise yaml.MarkedYAMLError(problem="a key has to be a text", problem_mark=key.start_mark)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value[:64]} is there twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def parse_documents(content: bytes) -> Iterator[Document]:
    """The documents of a file, each on its own: a broken one leaves the others readable. Empty ones do not count.

    InvalidManifest where not even the documents can be told apart: too large, or no UTF-8 text.
    """
    if len(content) > MAX_BYTES:
        raise InvalidManifest(f"the file has more than {MAX_BYTES} bytes; split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidManifest("the file is not UTF-8 text") from None
    # A line that begins with --- starts a document wherever it stands (YAML 1.2.2, 9.1.2).
    starts = [0, *(marker.start() for marker in _MARKER.finditer(text))]
    index = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        body = part.removeprefix("---")
        if not _EMPTY.fullmatch(body):
            index += 1
            yield _document(index, body, text.count("\n", 0, start))


def _document(index: int, text: str, lines_before: int) -> Document:
    try:
        _measure(text)
        return Document(index, yaml.load(text, Loader=_Loader))  # noqa: S506  a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        return Document(index, error=_describe(error, lines_before))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Such as characters that YAML has not, or a number too long to convert; the text may hold a secret.
        return Document(index, error=f"not YAML ({type(error).__name__})")


def _describe(error: yaml.MarkedYAMLError, lines_before: int) -> str:
    line = error.problem_mark.line + 1 + lines_before if error.problem_mark else None
    place = f"line {line}: " if line else ""
    return f"{place}{error.problem or 'not YAML'}"


def _measure(text: str) -> None:
    """Refuse depth and size from the parser's events alone, before anything is built."""
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _refused(event, "an alias names nothing that is complete")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before
        if len(opened) > MAX_DEPTH or total > MAX_NODES:
            raise _refused(event, f"more than {MAX_NODES} values or {MAX_DEPTH} levels, aliases written out")


def _refused(event: yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    # The C parser has marks of its own, which are used like the others.
    return yaml.MarkedYAMLError(problem=problem, problem_mark=cast("yaml.Mark | None", event.start_mark))
