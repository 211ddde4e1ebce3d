"""From a pydantic model to a structural schema (Kubernetes, "CustomResourceDefinition", structural schemas). Pure.

Every `$ref` is inlined, null is not a value (an absent field is), nothing says `additionalProperties`: the API server
prunes or refuses what it does not know. Defaults are those of the model, at the innermost place where they can stand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from hookcast_core.durations import format_duration
from hookcast_operator.crds.rules import Rule, duration

Schema = dict[str, Any]
Rules = Mapping[str, Sequence[Rule]]
"""By model (`Endpoint`), by property (`Endpoint.url`), or by a list's items (`Events.types[]`)."""

_DROPPED = {"title", "additionalProperties", "format", "x-within", "$defs", "default"}
_KEPT_FORMATS = {"date-time"}


def structural_schema(model: type[BaseModel], rules: Rules) -> Schema:
    """The schema of a model's JSON form, by its aliases, with the rules for it."""
    whole = model.model_json_schema(by_alias=True)
    return _Converter(whole.get("$defs", {}), rules).convert(whole | {"title": model.__name__})


class _Converter:
    def __init__(self, definitions: dict[str, Schema], rules: Rules) -> None:
        self._definitions = definitions
        self._rules = rules

    def convert(self, source: Schema, place: str = "") -> Schema:
        """`place` is where the schema stands, as the table of rules has it: `Endpoint.url`, `Events.types[]`."""
        source = self._resolved(source)
        converted = {key: value for key, value in source.items() if key not in _DROPPED}
        if source.get("format") in _KEPT_FORMATS:
            converted["format"] = source["format"]
        if "const" in converted:
            converted["enum"] = [converted.pop("const")]
        for bound in ("Minimum", "Maximum"):
            if (limit := converted.pop(f"exclusive{bound}", None)) is not None:
                converted |= {bound.lower(): limit, f"exclusive{bound}": True}
        rules = [*self._rules.get(place, ())] + ([duration(*source["x-within"])] if "x-within" in source else [])
        if source.get("type") == "object":
            rules = [*rules, *self._rules.get(source["title"], ())]
            converted["properties"] = {
                name: self._property(part, f"{source['title']}.{name}") for name, part in source["properties"].items()
            }
        if source.get("type") == "array":
            converted["items"] = self.convert(source["items"], f"{place}[]")
        return converted | _validations(rules)

    def _property(self, source: Schema, place: str) -> Schema:
        converted = self.convert(source, place)
        default = source.get("default")
        if default is None or default == []:
            return converted
        if converted.get("type") == "string" and isinstance(default, int):
            default = format_duration(default)
        if isinstance(default, dict):
            default = _remaining(default, converted)
        return converted | {"default": default}

    def _resolved(self, source: Schema) -> Schema:
        """Without `$ref`, and without null as an alternative; what stands beside a reference wins over its target."""
        if "anyOf" in source:
            (some,) = [part for part in source["anyOf"] if part != {"type": "null"}]
            source = self._resolved(some) | {
                key: value for key, value in source.items() if key not in {"anyOf", "title"}
            }
        if "$ref" in source:
            target = self._definitions[source["$ref"].rpartition("/")[2]]
            source = target | {key: value for key, value in source.items() if key != "$ref"}
        return source


def _remaining(default: Schema, schema: Schema) -> Schema:
    """What of an object's default its properties do not say themselves."""
    remaining = {}
    for name, value in default.items():
        part = schema["properties"][name]
        if value is None or value == part.get("default") or value in ([], ()):
            continue
        if part.get("type") == "object":
            value = _remaining(value, part)  # noqa: PLW2901  the same value, shorter
            if value == part.get("default"):
                continue
        remaining[name] = value
    return remaining


def _validations(rules: list[Rule]) -> Schema:
    return {"x-kubernetes-validations": [rule.schema() for rule in rules]} if rules else {}
