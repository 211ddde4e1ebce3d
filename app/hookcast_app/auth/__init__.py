"""Who is calling and what they may do: API keys of services, connection tokens of clients."""

from hookcast_app.auth.keys import ApiKeys, Caller, key_from_headers

__all__ = ["ApiKeys", "Caller", "key_from_headers"]
