"""What can go wrong between the operator and the API server, translated once from what its client raises.

HookcastError
├── ApiRefused          the API server answered that it will not; trying the same again will not help
│   ├── NotFound        there is no such object
│   ├── AlreadyExists   an object of that name is there
│   └── Conflict        the object is another version than the one that was to be replaced
├── ApiUnavailable      no answer, or one that says to try again later
└── NotLeading          another operator may hold the lease: nothing may be written
"""

from hookcast_core.errors import HookcastError


class ApiRefused(HookcastError):  # noqa: N818  named for what the server did
    """The API server will not do it. `code` is the HTTP status, the message its own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class NotFound(ApiRefused):
    """There is no such object."""


class AlreadyExists(ApiRefused):
    """An object of that name is there."""


class Conflict(ApiRefused):
    """The object is another version than the one that was to be replaced."""


class ApiUnavailable(HookcastError):  # noqa: N818  as above
    """No answer, or one that says to try again later."""


class NotLeading(HookcastError):  # noqa: N818  as above
    """Another operator may hold the lease: nothing may be written."""
