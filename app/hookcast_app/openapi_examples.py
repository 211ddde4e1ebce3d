"""An example of every request and answer of the REST API, for its OpenAPI document. Pure.

`POST /api/v1/events` has its own, beside its schemas: `events/openapi.py`.
"""

from typing import Any, NamedTuple

UID = "0199c1de-8f7b-7d1c-a3b5-3f0c5e1d7a42"
EVENT = "0199c1df-04a2-7c6e-9b1d-6a4f2c8e0b53"
REPLAY = "0199c1e2-77d0-7f3a-8c55-1e9b4d6f2a08"
DELIVERY = f"{EVENT}.{UID}"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  that of the Standard Webhooks' own examples
_AT = "2027-01-31T12:00:00.000Z"


class Example(NamedTuple):
    """What is sent to an operation and what it answers with success; None where there is no body."""

    answer: Any = None
    request: Any = None


_SPEC: dict[str, Any] = {
    "endpoint": {
        "url": "https://shop.example/hooks",
        "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}}],
    },
    "events": {"types": ["order.*"], "filter": "data.amount > 100"},
}
_KEPT = {"uid": UID, "namespace": "default", "name": "orders", "source": "api", "generation": 1, "spec": _SPEC}
_IN_FORCE = {**_KEPT, "disabled": None, "held": None}
_REPLACED = {**_SPEC, "delivery": {"maxInFlight": 4, "ordering": "FIFO"}}
_ATTEMPT = {
    "number": 1,
    "at": _AT,
    "durationMs": 38,
    "status": 204,
    "reason": None,
    "detail": None,
    "responseHead": "",
}
_DELIVERY = {
    "id": DELIVERY,
    "event": EVENT,
    "source": "/keys/shop",
    "type": "order.created",
    "subscription": UID,
    "webhookId": "msg_J4XG6ZCM5QKQ7N2RBVYD3WTLHA",
    "status": "delivered",
    "reason": None,
    "attemptsMade": 1,
    "nextAttemptAt": None,
    "acceptedAt": _AT,
    "correlationId": "0199c1df04a27c6e9b1d6a4f2c8e0b53",
}
_FAILED = {**_ATTEMPT, "status": 404, "reason": "BadStatus", "responseHead": "no such hook"}
_DEAD = {**_DELIVERY, "status": "dead", "reason": "BadStatus"}
_EVENT = {
    "event": {
        "specversion": "1.0",
        "id": EVENT,
        "source": "/keys/shop",
        "type": "order.created",
        "time": _AT,
        "datacontenttype": "application/json",
        "data": {"id": 7, "amount": 120},
    },
    "acceptedAt": _AT,
    "correlationId": "0199c1df04a27c6e9b1d6a4f2c8e0b53",
    "deliveries": [_DELIVERY],
}
_PROGRESS = {"id": REPLAY, "action": "replay", "state": "running", "examined": 0, "moved": 0, "requestedAt": _AT}
_SELECTION = {"since": "2027-01-30T00:00:00Z", "until": "2027-01-31T00:00:00Z", "types": ["order.*"]}
_SECRET = {"name": "shop", "keys": ["signing", "token"]}
_SUBSCRIPTION = "/api/v1/webhook-subscriptions/{uid}"
_CHANNEL = "/api/v1/channels/{channel}"
_USER_SUBSCRIPTION = "/api/v1/users/{user}/subscriptions/{channel}"
_POSITION = {"offset": 41, "epoch": "9f86d081"}


def _page(*items: Any, following: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": following}


EXAMPLES: dict[tuple[str, str], Example] = {
    ("get", "/api/v1/webhook-subscriptions"): Example({"items": [_IN_FORCE], "problems": []}),
    ("post", "/api/v1/webhook-subscriptions"): Example(
        {**_KEPT, "secret": SECRET}, {"name": "orders", "namespace": "default", "spec": _SPEC}
    ),
    ("get", _SUBSCRIPTION): Example(_IN_FORCE),
    ("put", _SUBSCRIPTION): Example({**_KEPT, "generation": 2, "spec": _REPLACED}, {"spec": _REPLACED}),
    ("patch", _SUBSCRIPTION): Example(
        {**_KEPT, "generation": 3, "spec": {**_REPLACED, "suspend": True}}, {"spec": {"suspend": True}}
    ),
    ("delete", _SUBSCRIPTION): Example(),
    ("post", f"{_SUBSCRIPTION}/rotate-secret"): Example({"uid": UID, "secret": SECRET}),
    ("post", f"{_SUBSCRIPTION}/enable"): Example({"uid": UID, "disabled": None}),
    ("post", f"{_SUBSCRIPTION}/test"): Example(
        {"delivered": True, "event": EVENT, "attempt": _ATTEMPT},
        {"type": "order.created", "subject": "orders/7", "data": {"id": 7, "amount": 120}},
    ),
    ("post", f"{_SUBSCRIPTION}/replay"): Example(_PROGRESS, {**_SELECTION, "status": ["dead", "discarded"]}),
    ("get", f"{_SUBSCRIPTION}/deliveries"): Example(_page(_DELIVERY, following="delivered~1801396800000-0")),
    ("get", f"{_SUBSCRIPTION}/stats"): Example(
        {
            "uid": UID,
            "deliveries": {"waiting": 2, "later": 0, "delivered": 4096, "dead": 1, "discarded": 0},
            "failingSince": None,
            "circuitBreaker": "closed",
            "filterErrors": 0,
        }
    ),
    ("get", "/api/v1/secrets"): Example({"items": [_SECRET]}),
    ("get", "/api/v1/secrets/{name}"): Example(_SECRET),
    ("put", "/api/v1/secrets/{name}"): Example(_SECRET, {"data": {"token": "Bearer 8f4e2a", "signing": SECRET}}),
    ("delete", "/api/v1/secrets/{name}"): Example(),
    ("get", "/api/v1/events"): Example(_page(_EVENT, following="1801396800000-0")),
    ("get", "/api/v1/events/{event_id}"): Example(_EVENT),
    ("get", "/api/v1/deliveries"): Example(_page(_DELIVERY)),
    ("get", "/api/v1/deliveries/{delivery_id}"): Example({**_DELIVERY, "attempts": [_ATTEMPT]}),
    ("post", "/api/v1/deliveries/{delivery_id}/retry"): Example(
        {**_DELIVERY, "status": "waiting", "attempts": [_FAILED]}
    ),
    ("post", "/api/v1/deliveries/{delivery_id}/cancel"): Example(
        {**_DELIVERY, "status": "discarded", "reason": "Cancelled", "attempts": [_FAILED]}
    ),
    ("get", "/api/v1/dead-letters"): Example(_page(_DEAD)),
    ("post", "/api/v1/dead-letters/replay"): Example(_PROGRESS, {**_SELECTION, "subscription": UID}),
    ("delete", "/api/v1/dead-letters"): Example({**_PROGRESS, "action": "purge"}),
    ("get", "/api/v1/replays/{task_id}"): Example({**_PROGRESS, "state": "done", "examined": 120, "moved": 117}),
    ("get", "/api/v1/channels"): Example({"items": [{"channel": "chat:lobby", "clients": 12}], "truncated": False}),
    ("post", f"{_CHANNEL}/publications"): Example(
        _POSITION, {"data": {"text": "hello"}, "tags": {"kind": "greeting"}, "skipHistory": False}
    ),
    ("get", f"{_CHANNEL}/presence"): Example({"items": [{"user": "ann", "client": UID}]}),
    ("get", f"{_CHANNEL}/presence-stats"): Example({"clients": 12, "users": 9}),
    ("get", f"{_CHANNEL}/history"): Example(
        {"items": [{"offset": 41, "data": {"text": "hello"}, "tags": {"kind": "greeting"}}], **_POSITION}
    ),
    ("delete", f"{_CHANNEL}/history"): Example(),
    ("post", _USER_SUBSCRIPTION): Example(request={"data": {"welcome": "ann"}, "info": {"role": "guest"}}),
    ("delete", _USER_SUBSCRIPTION): Example(),
    ("delete", "/api/v1/users/{user}/connections"): Example(),
    ("get", "/api/v1/nodes"): Example(
        {
            "items": [
                {
                    "uid": UID,
                    "name": "hookcast-0",
                    "version": "0.1.0",
                    "clients": 12,
                    "users": 9,
                    "channels": 1,
                    "subscriptions": 12,
                    "uptimeSeconds": 3600,
                }
            ]
        }
    ),
    ("get", "/api/v1/channels/{channel}/messages"): Example(
        {
            "messages": [{"offset": 42, "data": {"text": "hello"}, "info": {"user": "ann", "client": UID}}],
            "position": "5f2a9c1e:42",
            "recovered": True,
        }
    ),
}
"""By method and path."""
