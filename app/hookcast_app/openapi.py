"""The OpenAPI document, completed by what FastAPI cannot know: examples, and how an API key is shown."""

from typing import Any

from fastapi import FastAPI

from hookcast_app.openapi_examples import EXAMPLES, Example

_PREFIX = "/api/v1/"
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
_EITHER: list[dict[str, list[str]]] = [{name: []} for name in _KEYS]


def install(app: FastAPI) -> None:
    """Has `app` complete its document whenever it is asked for it."""
    make = app.openapi
    app.openapi = lambda: completed(make())  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, in which every operation of the REST API has its examples; may be completed again."""
    document.setdefault("components", {})["securitySchemes"] = _KEYS
    for path, operations in document["paths"].items():
        if path.startswith(_PREFIX):
            for method, operation in operations.items():
                operation["security"] = _EITHER
                _exemplify(operation, EXAMPLES.get((method, path), Example()))
    return document


def _exemplify(operation: dict[str, Any], example: Example) -> None:
    if example.request is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.request
    for status, answer in operation["responses"].items():
        if status.startswith("2") and example.answer is not None:
            answer["content"]["application/json"]["example"] = example.answer
