"""Functions of an application's own that clients call by `rpc`, that take what they `send`, and that greet them.

A module that `HOOKCAST_RPC_MODULES` names is imported at the start, and registers its functions:

    from hookcast_app import rpc

    @rpc.method("add")
    async def add(call: rpc.Call) -> int:
        return call.data["a"] + call.data["b"]

They run on the server's event loop, one after the other for each client: what takes long belongs elsewhere.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hookcast_core.errors import InvalidInput, Reason

LOWEST_CODE, HIGHEST_CODE = 400, 1999
"""Of errors that are the application's own; others are the protocol's."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls with what. `user` is empty for an anonymous client, `client` is the id of its connection."""

    user: str
    client: str
    info: Any
    """What its token says of the user."""
    data: Any
    """What it sent: JSON as Python has it; None also if there was nothing."""
    send: Callable[[Any], None] = field(repr=False)
    """Sends the client a message, which is any JSON value. It may never arrive."""


Function = Callable[[Call], Awaitable[Any]]


class CallError(Exception):
    """What a function raises to answer with an error. Raises ValueError for a code beyond 400 to 1999."""

    def __init__(self, code: int, message: str) -> None:
        if not LOWEST_CODE <= code <= HIGHEST_CODE:
            raise ValueError(f"an error's code is from {LOWEST_CODE} to {HIGHEST_CODE}, not {code}")
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class Methods:
    """Functions that are registered; `message` takes what clients send, `connecting` what they connect with."""

    methods: dict[str, Function] = field(default_factory=dict)
    message: Function | None = None
    connecting: Function | None = None


_registered = Methods()


def method(name: str) -> Callable[[Function], Function]:
    """Registers a function under a name. What it returns is the answer; a CallError is answered as an error.

    Raises TypeError for a function that is not async, ValueError for a name that is taken.
    """

    def register(function: Function) -> Function:
        if name in _registered.methods:
            raise ValueError(f"there is a method {name!r} already")
        _registered.methods[name] = _checked(function)
        return function

    return register


def message(function: Function) -> Function:
    """Registers the function that takes clients' messages. Raises TypeError."""
    _registered.message = _checked(function)
    return function


def connecting(function: Function) -> Function:
    """Registers the function that is called with the data of each connect command, and whose answer is its reply's.

    A CallError refuses the client. Raises TypeError.
    """
    _registered.connecting = _checked(function)
    return function


def load(modules: Iterable[str]) -> Methods:
    """What modules register. Raises InvalidInput for one that cannot be imported."""
    for name in modules:
        try:
            import_module(name)
        except Exception as error:
            detail = f"{name} cannot be imported: {type(error).__name__}: {error}"
            raise InvalidInput(Reason.INVALID_SETTING, "rpc_modules", detail) from error
    return _registered


def _checked(function: Function) -> Function:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} must be an async function")
    return function
