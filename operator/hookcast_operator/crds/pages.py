"""A page of docs for a custom resource definition: every field, with its type, default and limits. Pure."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def page(definition: Schema, sample: str, conditions: str) -> str:
    """Markdown. `sample` is YAML to begin with, `conditions` what is said of the status's conditions."""
    names = definition["spec"]["names"]
    version = definition["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    api = f"{definition['spec']['group']}/{version['name']}"
    rows = ["| field | type | default | |", "|---|---|---|---|", *_rows(root["properties"]["spec"], "spec")]
    status = ["| field | type | |", "|---|---|---|", *_status_rows(root["properties"]["status"], "status")]
    return "\n".join(
        [
            f"# {names['kind']}",
            "",
            "<!-- Written by `python -m hookcast_operator.crds`. -->",
            "",
            f"{root['description']} `{api}`, namespaced, short name `{names['shortNames'][0]}`.",
            "",
            "```yaml",
            sample.strip(),
            "```",
            "",
            "## Spec",
            "",
            "A field marked * is required.",
            "",
            *rows,
            "",
            "## Status",
            "",
            *status,
            "",
            "## Conditions",
            "",
            conditions.strip(),
            "",
        ]
    )


def _rows(schema: Schema, path: str) -> Iterator[str]:
    for name, part in schema["properties"].items():
        mark = "*" if name in schema.get("required", ()) else ""
        text = _cell(" ".join([part.get("description", ""), *_limits(part)]).strip())
        default = "" if "default" not in part or part["default"] == {} else f"`{_plain(part['default'])}`"
        yield f"| `{path}.{name}`{mark} | {_type(part)} | {default} | {text} |"
        inner = part.get("items", part)
        if inner.get("type") == "object":
            yield from _rows(inner, f"{path}.{name}" + ("[]" if "items" in part else ""))


def _status_rows(schema: Schema, path: str) -> Iterator[str]:
    for name, part in schema["properties"].items():
        yield f"| `{path}.{name}` | {_type(part)} | {_cell(part.get('description', ''))} |"
        inner = part.get("items", part)
        if inner.get("type") == "object":
            yield from _status_rows(inner, f"{path}.{name}" + ("[]" if "items" in part else ""))


def _type(part: Schema) -> str:
    if part["type"] == "array":
        return f"list of {_type(part['items'])}"
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    return str(part.get("format", part["type"]))


def _limits(part: Schema) -> Iterator[str]:
    inner = part.get("items", {})
    for rule in [*part.get("x-kubernetes-validations", ()), *inner.get("x-kubernetes-validations", ())]:
        message = rule["message"]
        yield f"{message[0].upper()}{message[1:]}."
    if "minimum" in part and "maximum" in part:
        yield f"{part['minimum']:,} to {part['maximum']:,}."
    if "maxItems" in part:
        yield f"At most {part['maxItems']}."
    elif part.get("maxLength", 32) > 32:  # noqa: PLR2004  durations say their limits themselves
        yield f"At most {part['maxLength']:,} characters."


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
