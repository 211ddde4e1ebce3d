"""The generated definition: what stands in the files, and that it says what the model says."""

from collections.abc import Iterator
from typing import Any

import pytest

from hookcast_core.errors import InvalidInput
from hookcast_core.subscription import Subscription, parse_subscription
from hookcast_operator.crds.__main__ import files
from hookcast_operator.crds.definition import subscription_definition
from hookcast_operator.crds.rules import RULES

# A URL is judged when it is resolved, with the egress rules at hand, and not by the model.
EXAMPLES = [rule for place, rules in RULES.items() for rule in rules if rule.example and place != "Endpoint.url"]


def schema() -> dict[str, Any]:
    found: dict[str, Any] = subscription_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
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


def test_every_text_and_list_is_bounded_and_described() -> None:
    """Without bounds the API server's cost limit refuses the rules; without descriptions `kubectl explain` is mute."""
    for path, part in parts(schema()["properties"]["spec"]):
        if part["type"] == "string":
            assert "maxLength" in part or "enum" in part or "format" in part, path
        if part["type"] == "array":
            assert "maxItems" in part, path
        assert "description" in part or path.endswith("[]"), path


def test_the_schema_is_structural() -> None:
    """Nothing in it that the API server refuses or that means something else there."""
    for path, part in parts(schema()):
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


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"delivery": {"retry": {"exponential": {"initial": "1s", "max": "1h", "attempts": 3}}}},
        {"delivery": {"rateLimit": {"requests": 3}, "maxBacklog": {"age": "1h"}, "ordering": "FIFO"}},
        {"signing": {"keys": [{"secretRef": {"name": "n", "key": "k"}}]}, "suspend": True, "format": "Data"},
    ],
)
def test_defaults_are_the_model_s(spec: dict[str, Any]) -> None:
    """What is stored with all defaults filled in is the same subscription."""
    given = {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}, **spec}

    stored = with_defaults(schema()["properties"]["spec"], given)

    assert parse_subscription(stored) == parse_subscription(given)
    if not spec:
        every = Subscription.model_validate(given).model_dump(mode="json", exclude_none=True)
        assert stored["delivery"] == every["delivery"]


@pytest.mark.parametrize("rule", EXAMPLES)
def test_the_model_refuses_what_a_rule_refuses(rule: Any) -> None:
    """A subscription from a file or over REST gains nothing by not passing the API server."""
    with pytest.raises(InvalidInput):
        parse_subscription(rule.example)
