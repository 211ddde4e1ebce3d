"""The channels of the suite: namespaces and their options, in one place.

| namespace | what it is | on another server |
|---|---|---|
| `full` | presence, joins and leaves, history of 1,000, recovery; anybody with a token may publish | any channel |
| `plain` | nothing but publications of the server; anybody may subscribe | none |
| `members` | as `plain`, for those with a token | none |
| `sealed` | as `plain`, for those with a subscription token | none |
| `talk` | as `full`, and only subscribers may publish | none |
| `small` | one subscriber | none |
| `short` | history of 3, recovery | none |
| `last` | the last publication is sent to whoever subscribes | none |

Tests of other namespaces than `full` are for Hookcast alone.
"""

import uuid
from typing import Any, Literal

from hookcast_app.settings import ChannelOptions

Namespace = Literal["full", "plain", "members", "sealed", "talk", "small", "short", "last"]
HISTORY_SIZE = 1000
"""Publications that a `full` channel keeps."""
SHORT_HISTORY_SIZE = 3
"""Publications that a `short` channel keeps."""
_FULL: dict[str, Any] = {
    "presence": True,
    "join_leave": True,
    "history_size": HISTORY_SIZE,
    "history_ttl": "5m",
    "recover": True,
    "subscribe": "anyone",
    "publish": "authenticated",
}
NAMESPACES: dict[Namespace, dict[str, Any]] = {
    "full": _FULL,
    "plain": {"subscribe": "anyone"},
    "members": {"subscribe": "authenticated"},
    "sealed": {"subscribe": "token"},
    "talk": {**_FULL, "publish": "subscribers"},
    "small": {"subscribe": "anyone", "max_subscribers": 1},
    "short": {"subscribe": "anyone", "history_size": SHORT_HISTORY_SIZE, "history_ttl": "5m", "recover": True},
    "last": {"subscribe": "anyone", "history_size": 1, "history_ttl": "5m", "cache_last": True},
}


def fresh(namespace: Namespace = "full") -> str:
    """A channel that nobody has used."""
    return f"{namespace}:{uuid.uuid4().hex[:12]}"


def options() -> dict[str, ChannelOptions]:
    """The settings of these namespaces."""
    return {name: ChannelOptions(**values) for name, values in NAMESPACES.items()}
