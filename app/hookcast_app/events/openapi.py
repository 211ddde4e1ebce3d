"""How `POST /api/v1/events` stands in the OpenAPI document: its handler is raw ASGI, so FastAPI cannot know."""

from typing import Any

_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9._-]+$"},
        "id": {"type": "string", "maxLength": 256, "description": "Yours; repeated within 24 h it is a duplicate."},
        "source": {"type": "string", "format": "uri-reference", "maxLength": 1024},
        "subject": {"type": "string", "maxLength": 1024},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string", "maxLength": 255},
        "dataschema": {"type": "string", "format": "uri-reference", "maxLength": 1024},
        "data": {"description": "Any JSON; receivers get it as you wrote it."},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
        "channel": {"type": "string", "description": "Realtime channels to publish to, separated by spaces."},
        "orderingkey": {"type": "string", "maxLength": 256},
        "partitionkey": {"type": "string", "maxLength": 256, "description": "The same as orderingkey."},
        "traceparent": {"type": "string"},
    },
}
_CLOUD_EVENT: dict[str, Any] = {
    **_EVENT,
    "required": ["specversion", "id", "source", "type"],
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
    "properties": {"specversion": {"const": "1.0"}, **_EVENT["properties"]},
}
_ACCEPTED: dict[str, Any] = {
    "type": "object",
    "required": ["id", "matched", "duplicate"],
    "properties": {"id": {"type": "string"}, "matched": {"type": "integer"}, "duplicate": {"type": "boolean"}},
}
_EXAMPLE = {"type": "order.created", "data": {"id": 7, "amount": 120}, "channel": "orders"}
_CLOUD_EXAMPLE = {"specversion": "1.0", "id": "order-7", "source": "/shop", **_EXAMPLE}


def _problem(what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/problem+json": {"schema": {"type": "object"}}}}


PUBLISH: dict[str, Any] = {
    "description": (
        "Takes one event as plain JSON, or CloudEvents 1.0 in binary, structured or batch mode. A 202 means that the "
        "event and all its deliveries are stored. Needs the scope `events:write`."
    ),
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "maxItems": 1000}]},
                "example": _EXAMPLE,
            },
            "application/cloudevents+json": {"schema": _CLOUD_EVENT, "example": _CLOUD_EXAMPLE},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "items": _CLOUD_EVENT, "minItems": 1, "maxItems": 1000},
                "example": [_CLOUD_EXAMPLE, {**_CLOUD_EXAMPLE, "id": "order-8"}],
            },
        },
    },
    "responses": {
        "202": {
            "description": "Stored; for a batch a list, with `{error: problem}` for each event that was refused.",
            "content": {
                "application/json": {
                    "schema": {"oneOf": [_ACCEPTED, {"type": "array", "items": {"type": "object"}}]},
                    "example": {"id": "0199c1de-8f7b-7d1c-a3b5-0f5f5f5f5f5f", "matched": 2, "duplicate": False},
                }
            },
        },
        "400": {
            "description": "`InvalidEvent`: the field is named. For a batch of which nothing was accepted, a list.",
            "content": {
                "application/problem+json": {"schema": {"type": "object"}},
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            },
        },
        "401": _problem("No or an unknown API key."),
        "403": _problem("The key lacks the scope, or the type is reserved (`ReservedType`)."),
        "409": _problem("`EventIdReused`: this id was used for another event."),
        "413": _problem("`TooLarge`."),
        "415": _problem("`UnsupportedMediaType`."),
        "422": _problem("`TooManyHops`: the event runs in a loop through webhooks of ours."),
        "503": _problem("Redis does not answer; publish again after `Retry-After` seconds, with the same id."),
    },
}
