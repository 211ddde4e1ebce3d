"""Who is calling and what they may do: API keys of services, connection and subscription tokens of clients."""

from hookcast_app.auth.errors import TokenExpired, TokenInvalid
from hookcast_app.auth.identity import (
    ANONYMOUS,
    Capability,
    Grant,
    Identity,
    Match,
    Override,
    Permission,
    SubscribeOptions,
)
from hookcast_app.auth.keys import ApiKeys, Caller
from hookcast_app.auth.tokens import TokenVerifier

__all__ = [
    "ANONYMOUS",
    "ApiKeys",
    "Caller",
    "Capability",
    "Grant",
    "Identity",
    "Match",
    "Override",
    "Permission",
    "SubscribeOptions",
    "TokenExpired",
    "TokenInvalid",
    "TokenVerifier",
]
