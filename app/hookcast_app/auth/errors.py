"""Why a token is refused. No message repeats any part of a token."""

from hookcast_core.errors import HookcastError


class TokenInvalid(HookcastError):  # noqa: N818  it is what happened to the token
    """A token that was not issued for this server or for this use, or is not yet valid."""


class TokenExpired(TokenInvalid):
    """A token that was good until its `exp`; its client should get another one."""
