"""The chart's values: each described, each in the schema, nothing else allowed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "hookcast"
OPEN = {"global", "kubernetes", "named"}
"""Where more may stand: others' globals, and what only the API server can judge."""


def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return content


def objects(part: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, with the name of the property or definition that it stands under."""
    if isinstance(part, list):
        for item in part:
            yield from objects(item, name)
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield name, part
        for key, inner in part.items():
            yield from objects(inner, name if key in {"items", "properties", "definitions"} else key)


PARENT = "enabled"
"""A chart that contains this one may leave it out by it; nothing here asks for it, so it is no value of this chart."""


def undefined(values: Mapping[str, Any], part: dict[str, Any], path: str = "") -> Iterator[str]:
    """Properties of the schema that have no default, but for those of what is empty by default."""
    for name, inner in part["properties"].items():
        if name not in values and f"{path}{name}" != PARENT:
            yield f"{path}{name}"
        elif values.get(name) and "properties" in inner:
            yield from undefined(values[name], inner, f"{path}{name}.")


def test_the_schema_is_strict() -> None:
    """A value that is misspelt is refused, at every depth."""
    loose = [
        name for name, part in objects(schema()) if part.get("additionalProperties", True) is True and name not in OPEN
    ]

    assert loose == []


def test_every_value_of_the_schema_has_a_default() -> None:
    """One without would be in no list of values, and nobody would find it."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert list(undefined(values, schema())) == []


def optional(values: Mapping[str, Any], part: dict[str, Any], path: str = "") -> Iterator[str]:
    """Properties that have a default and are not required, but for those that Kubernetes or a parent chart gives."""
    for name, inner in part["properties"].items():
        if name not in part.get("required", ()) and f"{path}{name}" != PARENT:
            yield f"{path}{name}"
        definition = inner.get("$ref", f"/{name}").rsplit("/", 1)[1]
        whole = schema()["definitions"].get(definition, inner)
        if values.get(name) and "properties" in whole and definition not in {"global", "probe", "resources"}:
            yield from optional(values[name], whole, f"{path}{name}.")


def test_null_is_refused() -> None:
    """Helm takes null as the wish to remove a default: a section's protection would be gone, or a template fail."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert list(optional(values, schema())) == []
