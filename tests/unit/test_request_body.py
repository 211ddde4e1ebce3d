"""A request's body: read within limits of size and time."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message, Receive

from hookcast_app import request_body
from hookcast_app.request_body import RequestBody
from hookcast_core.errors import InvalidInput, Reason


def sent(parts: Sequence[bytes], *, ends: bool) -> Receive:
    """What a client sent; one that does not end sends nothing more."""
    left = [*parts]

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or not ends}

    return receive


async def test_a_body_comes_in_parts() -> None:
    """In order, whole."""
    assert await RequestBody(sent([b"a", b"", b"bc"], ends=True), "it").read("", 3) == b"abc"


@pytest.mark.parametrize("parts", [[], [b"a"]], ids=["nothing", "a part"])
async def test_a_body_that_does_not_come_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, parts: list[bytes]
) -> None:
    """Also if none of it has come."""
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.01)
    with pytest.raises(InvalidInput) as refused:
        await RequestBody(sent(parts, ends=False), "it").read("9", 9)
    assert refused.value.reason is Reason.REQUEST_TIMEOUT
