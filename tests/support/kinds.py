"""Objects as the API server tells them, made up for tests."""

from base64 import b64encode
from typing import Any

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED = {"keys": [{"secretRef": {"name": "signing", "key": "secret"}}]}
UNVERIFIED = {"verification": {"scheme": "None"}, "event": {"type": "order.created"}}

Raw = dict[str, Any]


def metadata(name: str, namespace: str = "shop", version: int = 1, **more: Any) -> Raw:
    """What every object has; its UID follows from its name."""
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def subscription(name: str = "orders", /, *, status: Raw | None = None, meta: Raw | None = None, **spec: Any) -> Raw:
    """A subscription to `order.*`, signed with the key in the Secret `signing`, or what `spec` says."""
    content = {
        "endpoint": {"url": "https://shop.example/hooks"},
        "events": {"types": ["order.*"]},
        "signing": SIGNED,
        **spec,
    }
    return {
        "apiVersion": "hookcast.dev/v1alpha1",
        "kind": "WebhookSubscription",
        "metadata": metadata(name, **(meta or {})),
        "spec": content,
    } | ({"status": status} if status else {})


def source(name: str = "github", /, *, meta: Raw | None = None, **spec: Any) -> Raw:
    """A source that takes everything, or what `spec` says."""
    return {
        "apiVersion": "hookcast.dev/v1alpha1",
        "kind": "WebhookSource",
        "metadata": metadata(name, **(meta or {})),
        "spec": {**UNVERIFIED, **spec},
    }


def secret(name: str = "signing", /, *, allowed: bool = True, meta: Raw | None = None, **data: str) -> Raw:
    """A Secret that may be referred to, with a signing key under `secret` or what `data` says."""
    labels = {"hookcast.dev/allow": "true"} if allowed else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata(name, **{"labels": labels, **(meta or {})}),
        "data": {
            key: b64encode(value.encode()).decode() for key, value in (data or {"secret": SIGNING_SECRET}).items()
        },
    }
