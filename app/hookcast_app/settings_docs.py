"""docs/settings.md, generated from Settings: `python -m hookcast_app.settings_docs > docs/settings.md`.

The meaning of a setting is the text beneath it in the source, its heading the comment above it; a unit test compares
the page with what this prints.
"""

import ast
import re
import sys
from collections.abc import Iterator
from inspect import getsource
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, PlainSerializer, SecretStr
from pydantic.fields import FieldInfo

from hookcast_app.settings import PREFIX, SCOPES, ApiKey, ChannelOptions, Settings
from hookcast_core.durations import format_duration

_INTRODUCTION = f"""\
# Settings

Generated from `app/hookcast_app/settings.py` by `python -m hookcast_app.settings_docs`; a test keeps it so.

Each setting is an environment variable. `hookcast serve --help` lists those that are options as well; an option wins
over the environment. Any of them can be read from a file: `{PREFIX}<NAME>_FILE` names it, or it is called
`{PREFIX}<NAME>` and is in one of the directories of `{PREFIX}SETTINGS_DIR` (separated as in PATH); its content without
the last newline is the value. Lists are comma-separated, structures are JSON. A value that does not hold ends the start
with one line that names the setting, and exit status 2.
"""
_SECTION = re.compile(r"    # (.+)")
_NO_VALUE = "none"


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_INTRODUCTION, *_settings(), *_structure(ApiKey), *_structure(ChannelOptions)]
    return "\n".join(parts)


def _settings() -> Iterator[str]:
    source = getsource(Settings)
    meanings = _meanings(source)
    sections = _sections(source)
    for name, field in Settings.model_fields.items():
        if name in sections:
            yield f"## {sections[name]}\n\n| setting | default | meaning |\n|---|---|---|"
        end = "\n" if _is_last_of_section(name, sections) else ""
        meaning = _sentence(_kind(field), meanings[name])
        yield f"| `{PREFIX}{name.upper()}` | {_default(field)} | {_cell(meaning)} |{end}"


def _structure(model: type[BaseModel]) -> Iterator[str]:
    meanings = _meanings(getsource(model))
    yield f"## One entry of `{_USED_BY[model]}`\n\n{(model.__doc__ or '').strip()}\n"
    yield "| name | default | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_default(field)} | {_cell(_sentence(_kind(field), meanings[name]))} |"
    yield ""


_USED_BY: dict[type[BaseModel], str] = {
    ApiKey: f"{PREFIX}API_KEYS",
    ChannelOptions: f"{PREFIX}CHANNEL_NAMESPACES",
}


def _meanings(source: str) -> dict[str, str]:
    """The text beneath each field of a class, without its indentation. KeyError for a field that has none."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101  getsource of a class
    meanings = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(meaning))),
            ):
                meanings[name] = " ".join(meaning.split())
    return meanings


def _sections(source: str) -> dict[str, str]:
    """The first field after each heading."""
    found, heading = {}, None
    for line in source.splitlines():
        if comment := _SECTION.fullmatch(line):
            heading = comment[1]
        elif heading and (field := re.match(r"    (\w+):", line)):
            found[field[1]], heading = heading, None
    return {name: title for name, title in found.items() if name in Settings.model_fields}


def _is_last_of_section(name: str, sections: dict[str, str]) -> bool:
    names = list(Settings.model_fields)
    after = names[names.index(name) + 1 :]
    return not after or after[0] in sections


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if _is_duration(field):
        default = format_duration(default)
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(default, bool):
        default = str(default).lower()
    return _NO_VALUE if default in (None, "", {}) else f"`{default}`"


def _kind(field: FieldInfo) -> str:
    """What may be written, in a few words; empty where the meaning says it."""
    annotation = _plain(field.annotation)
    bounds = {key: value for item in field.metadata for key, value in _bounds(item)}
    if annotation is bool:
        return "`true` or `false`"
    if get_origin(annotation) is Literal:
        return _choices(get_args(annotation))
    if _is_duration(field):
        return f"`{format_duration(bounds['ge'])}` to `{format_duration(bounds['le'])}`"
    if annotation in {int, float} and bounds:
        return f"{bounds['ge']} to {bounds['le']}" if "le" in bounds else f"{bounds['ge']} or more"
    if get_origin(annotation) is frozenset:
        return f"a list of {_choices(SCOPES)}"
    return ""


def _plain(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        (only,) = (each for each in get_args(annotation) if each is not NoneType)
        return _plain(only)
    return annotation


def _is_duration(field: FieldInfo) -> bool:
    return any(isinstance(item, PlainSerializer) and item.func is format_duration for item in field.metadata)


def _bounds(item: object) -> Iterator[tuple[str, int]]:
    for key in ("ge", "le"):
        value = getattr(item, key, None)
        if value is not None:
            yield key, value


def _choices(values: tuple[Any, ...]) -> str:
    words = [f"`{value}`" for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _sentence(kind: str, meaning: str) -> str:
    return f"{meaning} ({kind})" if kind else meaning


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
