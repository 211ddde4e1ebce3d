"""What a CRD's schema must not lack."""

from typing import Any


def unbounded(schema: dict[str, Any]) -> list[str]:
    """Paths of strings without maxLength, arrays without maxItems, and properties without a description."""
    return _walk(schema, "spec", schema["$defs"])


def _walk(schema: dict[str, Any], path: str, definitions: dict[str, Any]) -> list[str]:
    found = []
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")] | schema
    for variant in schema.get("anyOf", []):
        found += _walk(variant, path, definitions)
    if schema.get("type") == "string" and "maxLength" not in schema and "enum" not in schema:
        found += [] if schema.get("format") == "date-time" else [path]
    if schema.get("type") == "array":
        found += [path] if "maxItems" not in schema else []
        found += _walk(schema["items"], f"{path}[]", definitions)
    for name, child in schema.get("properties", {}).items():
        definition = definitions.get(child.get("$ref", "").removeprefix("#/$defs/"), {})
        found += [] if "description" in definition | child else [f"{path}.{name}: no description"]
        found += _walk(child, f"{path}.{name}", definitions)
    return found
