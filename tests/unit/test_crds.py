"""The generated definition: what stands in the files, and that it says what the model says."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hookcast_core.errors import InvalidInput
from hookcast_core.source import parse_webhook_source
from hookcast_core.subscription import parse_subscription
from hookcast_operator.crds.__main__ import files
from hookcast_operator.crds.definition import definition
from hookcast_operator.crds.kinds import KINDS, SOURCE, SUBSCRIPTION, Kind

PARSE: dict[str, Callable[[Any], Any]] = {SUBSCRIPTION.name: parse_subscription, SOURCE.name: parse_webhook_source}
GOOD: dict[str, dict[str, Any]] = {
    SUBSCRIPTION.name: {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}},
    SOURCE.name: {"verification": {"scheme": "None"}, "event": {"type": "order.created"}},
}
# A URL is judged when it is resolved, with the egress rules at hand, and not by the model.
EXAMPLES = [
    pytest.param(kind, rule, id=f"{kind.name} {place} {number}")
    for kind in KINDS
    for place, rules in kind.rules.items()
    for number, rule in enumerate(rules)
    if rule.example and place != "Endpoint.url"
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def schema(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


def test_the_files_are_what_the_models_say() -> None:
    """If this fails: python -m hookcast_operator.crds."""
    for path, text in files().items():
        assert path.read_text(encoding="utf-8") == text, path


@each_kind
def test_every_text_and_list_is_bounded_and_described(kind: Kind) -> None:
    """Without bounds the API server's cost limit refuses the rules; without descriptions `kubectl explain` is mute."""
    for path, part in parts(schema(kind)["properties"]["spec"]):
        if part["type"] == "string":
            assert "maxLength" in part or "enum" in part or "format" in part, path
        if part["type"] == "array":
            assert "maxItems" in part, path
        assert "description" in part or path.endswith("[]"), path


@each_kind
def test_the_schema_is_structural(kind: Kind) -> None:
    """Nothing in it that the API server refuses or that means something else there."""
    for path, part in parts(schema(kind)):
        assert not {"$ref", "anyOf", "title", "const", "additionalProperties", "x-within"} & part.keys(), path
        assert part.get("default", 0) is not None, path


def with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """What the API server stores of a value."""
    if schema["type"] == "array":
        return [with_defaults(schema["items"], item) for item in value]
    if schema["type"] != "object":
        return value
    filled = dict(value)
    for name, part in schema["properties"].items():
        if name not in filled and "default" in part:
            filled[name] = part["default"]
        if name in filled:
            filled[name] = with_defaults(part, filled[name])
    return filled


@each_kind
def test_every_rule_stands_in_the_schema(kind: Kind) -> None:
    """A renamed field would else leave its rules behind."""
    found = {rule["rule"] for _, part in parts(schema(kind)) for rule in part.get("x-kubernetes-validations", ())}

    assert {rule.rule for rules in kind.rules.values() for rule in rules} <= found


@each_kind
def test_a_chart_takes_the_definition_literally(kind: Kind) -> None:
    """Nothing in it begins a template's action but the two of ours."""
    (text,) = [text for path, text in files().items() if path.name == f"{kind.plural}.yaml" and "charts" in path.parts]

    assert text.count("{{") == 2


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (SUBSCRIPTION, {}),
        (SUBSCRIPTION, {"delivery": {"retry": {"exponential": {"initial": "1s", "max": "1h", "attempts": 3}}}}),
        (
            SUBSCRIPTION,
            {"delivery": {"rateLimit": {"requests": 3}, "maxBacklog": {"age": "1h"}, "ordering": "FIFO"}},
        ),
        (
            SUBSCRIPTION,
            {"signing": {"keys": [{"secretRef": {"name": "n", "key": "k"}}]}, "suspend": True, "format": "Data"},
        ),
        (SOURCE, {}),
        (SOURCE, {"response": {"body": "thanks"}, "path": "p", "channel": "a:{body:b}"}),
        (SOURCE, {"verification": {"scheme": "GitHub", "secretRefs": [{"name": "n", "key": "k"}]}}),
        (SOURCE, {"verification": {"scheme": "Basic", "secretRefs": [{"name": "n"}]}}),
        (
            SOURCE,
            {"verification": {"scheme": "HMAC", "header": "X-A", "secretRefs": [{"name": "n", "key": "k"}]}},
        ),
    ],
)
def test_defaults_are_the_model_s(kind: Kind, spec: dict[str, Any]) -> None:
    """What is stored with all defaults filled in is the same object."""
    parse = PARSE[kind.name]
    given = GOOD[kind.name] | spec

    stored = with_defaults(schema(kind)["properties"]["spec"], given)

    assert parse(stored) == parse(given)
    if not spec:
        every = kind.model.model_validate(given).model_dump(mode="json", exclude_none=True)
        filled = {SUBSCRIPTION.name: "delivery", SOURCE.name: "response"}[kind.name]
        assert stored[filled] == every[filled]


@pytest.mark.parametrize(("kind", "rule"), EXAMPLES)
def test_the_model_refuses_what_a_rule_refuses(kind: Kind, rule: Any) -> None:
    """An object from a file or over REST gains nothing by not passing the API server."""
    with pytest.raises(InvalidInput):
        PARSE[kind.name](rule.example)
