"""Registering functions that clients call."""

import pytest

from hookcast_app import rpc
from hookcast_app.rpc import CallError, Methods
from hookcast_core.errors import InvalidInput


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Methods:
    """None at first."""
    methods = Methods()
    monkeypatch.setattr(rpc, "_registered", methods)
    return methods


async def answer(_call: rpc.Call) -> int:
    return 1


def test_functions_are_registered_as_they_are(registered: Methods) -> None:
    """They can still be called by whoever wrote them."""
    assert rpc.method("one")(answer) is rpc.message(answer) is rpc.connecting(answer) is answer
    assert registered == Methods({"one": answer}, answer, answer)
    assert rpc.load([]) is registered


def test_a_name_is_taken_once() -> None:
    """Two functions of one name would hide one another."""
    rpc.method("one")(answer)
    with pytest.raises(ValueError, match="one"):
        rpc.method("one")(answer)


def test_only_async_functions_are_taken() -> None:
    """Another one would stop the whole server while it runs."""
    for register in (rpc.method("one"), rpc.message, rpc.connecting):
        with pytest.raises(TypeError, match="async"):
            register(lambda _call: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("code", [0, 399, 2000])
def test_codes_of_the_protocol_are_not_an_applications(code: int) -> None:
    """Clients act on those."""
    with pytest.raises(ValueError, match="400 to 1999"):
        CallError(code, "")


def test_a_module_that_fails_is_named() -> None:
    """As the setting that names it."""
    with pytest.raises(InvalidInput) as refused:
        rpc.load(["hookcast_app.no_such_module"])
    assert refused.value.field == "rpc_modules"
