"""Who is calling and what they may do: API keys of services, connection tokens of clients."""

from hookcast_app.auth.keys import ApiKeys, Caller
from hookcast_app.auth.tokens import ANONYMOUS, Identity, TokenExpired, TokenInvalid, TokenVerifier

__all__ = [
    "ANONYMOUS",
    "ApiKeys",
    "Caller",
    "Identity",
    "TokenExpired",
    "TokenInvalid",
    "TokenVerifier",
]
