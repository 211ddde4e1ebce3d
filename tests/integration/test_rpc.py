"""Functions of an application's own, in the real process: modules that a setting names are loaded and called."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.serving import Serving, serving

MODULE = """
from hookcast_app import rpc

heard = []

@rpc.method("add")
async def add(call):
    return call.data["a"] + call.data["b"]

@rpc.method("refuse")
async def refuse(call):
    raise rpc.CallError(403, "not you")

@rpc.method("heard")
async def what_was_heard(call):
    call.send({"soon": len(heard)})
    return heard

@rpc.message
async def hear(call):
    heard.append([call.user, call.data])

@rpc.connecting
async def greet(call):
    if call.data == "go away":
        raise rpc.CallError(1000, "as you wish")
    return {"hello": call.data}
"""


@asynccontextmanager
async def connection(server: Serving) -> AsyncIterator[ClientConnection]:
    async with connect(f"{server.url.replace('http', 'ws')}/connection/websocket") as client:
        yield client


async def ask(client: ClientConnection, *commands: Any) -> list[Any]:
    """As many lines as there are commands with an id."""
    await client.send("\n".join(map(json.dumps, commands)))
    lines: list[Any] = []
    while len(lines) < sum("id" in command for command in commands):
        lines += map(json.loads, str(await client.recv()).split("\n"))
    return lines


async def test_clients_call_functions_of_a_module_that_a_setting_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They answer, refuse, hear, send and greet; what goes wrong in one is told, and the connection stays."""
    (tmp_path / "shop_functions.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(tmp_path, RPC_MODULES="shop_functions", REALTIME_ANONYMOUS="true") as server:
        server.start()
        await server.ready()
        async with connection(server) as client:
            [reply] = await ask(client, {"id": 1, "connect": {"data": [1]}})
            assert reply["connect"]["data"] == {"hello": [1]}
            replies = await ask(
                client,
                {"id": 2, "rpc": {"method": "add", "data": {"a": 1, "b": 2}}},
                {"id": 3, "rpc": {"method": "refuse"}},
                {"id": 4, "rpc": {"method": "add", "data": {}}},
                {"id": 5, "rpc": {"method": "unheard"}},
            )
            assert [reply.get("rpc", reply.get("error")) for reply in replies] == [
                {"data": 3},
                {"code": 403, "message": "not you"},
                {"code": 100, "message": "internal server error", "temporary": True},
                {"code": 104, "message": "method not found"},
            ]
            lines = await ask(client, {"send": {"data": "news"}}, {"id": 6, "rpc": {"method": "heard"}})
            message, reply = lines if len(lines) > 1 else [*lines, json.loads(str(await client.recv()))]
            assert message == {"push": {"message": {"data": {"soon": 1}}}}
            assert reply["rpc"]["data"] == [["", "news"]]
        async with connection(server) as client:
            [reply] = await ask(client, {"id": 1, "connect": {"data": "go away"}})
            assert reply["error"] == {"code": 1000, "message": "as you wish"}
    assert "rpc.failed" in server.log.read_text() + server.said.read_text()


async def test_a_module_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    """With the status for a wrong setting, and a line that names it."""
    with serving(tmp_path, RPC_MODULES="no_such_module") as server:
        server.start()
        assert server.process.wait(30) == 2
    assert "HOOKCAST_RPC_MODULES: no_such_module cannot be imported" in server.log.read_text()
