"""Refusals by the codes of Centrifugo's server API. Pure."""

from collections.abc import Mapping

from hookcast_app.server_api.models import ApiError
from hookcast_core.errors import HookcastError, InvalidInput, Reason, Refused, Unavailable

_INTERNAL = (100, "internal server error")
_BAD_REQUEST = (107, "bad request")
_CODES: Mapping[Reason, tuple[int, str]] = {
    Reason.FORBIDDEN: (103, "permission denied"),
    Reason.METHOD_NOT_ALLOWED: (104, "method not found"),
    Reason.LIMIT_EXCEEDED: (106, "limit exceeded"),
    Reason.TOO_LARGE: (106, "limit exceeded"),
    Reason.NOT_FOUND: (108, "not available"),
    Reason.CONFLICT: (112, "unrecoverable position"),
}


def api_error(error: HookcastError) -> ApiError:
    """The error that a caller is told: a code that clients know, and what is wrong."""
    match error:
        case Unavailable():
            (code, text), detail = _INTERNAL, error.detail
        case InvalidInput() | Refused():
            (code, text), detail = _CODES.get(error.reason, _BAD_REQUEST), str(error)
        case _:
            (code, text), detail = _INTERNAL, ""
    return ApiError(code, f"{text}: {detail}" if detail else text)
