"""The process: two ports, signals, the order of its end, exit statuses. Real processes, a stand-in for the app."""

import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.integration.standin_process import served, until
from tests.support.serving import serving

ENDS_WITHIN = 10.0
"""Seconds: it takes well under two, but nothing here says how busy the machine is."""
EXTERNAL = {"HOOKCAST_REDIS_URL": "redis://127.0.0.1:1", "HOOKCAST_DRAIN_DELAY": "0"}


def test_each_port_serves_its_own_app_and_nobody_can_ask_for_the_other(tmp_path: Path) -> None:
    """The admin app is reachable on the admin port alone, whatever headers a client sends."""
    with served(tmp_path, **EXTERNAL) as server:
        claims = {
            "host": server.admin.removeprefix("http://"),
            "x-forwarded-host": server.admin.removeprefix("http://"),
            "x-forwarded-port": server.admin.rsplit(":", 1)[1],
            "forwarded": f"host={server.admin.removeprefix('http://')}",
        }

        assert httpx.get(f"{server.main}/which", headers=claims).json() == "main"
        assert httpx.get(f"{server.main}/metrics", headers=claims).status_code == 404
        assert httpx.get(f"{server.admin}/which").json() == "admin"
        assert httpx.get(f"{server.admin}/metrics").status_code == 200
        assert "server" not in httpx.get(f"{server.main}/which").headers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_status_0(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT: drained, then closed, exit status 0."""
    with served(tmp_path, **EXTERNAL) as server:
        server.event("listening")

        assert server.ends(number) == 0

        events = [line.get("event") for line in server.lines()]
        assert events[-4:] == ["stopping", "draining", "closed", "stopped"]


def test_it_keeps_accepting_while_balancers_take_notice(tmp_path: Path) -> None:
    """During the drain delay the process is unready, and new connections are still answered."""
    with served(tmp_path, **EXTERNAL | {"HOOKCAST_DRAIN_DELAY": "2"}) as server:
        assert httpx.get(f"{server.main}/health/ready").status_code == 200

        server.process.send_signal(signal.SIGTERM)
        server.event("stopping")

        answer = httpx.get(f"{server.admin}/health/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "failing", "failing": {"process": "the process is stopping"}}
        assert httpx.get(f"{server.main}/which").json() == "main"
        assert server.ends() == 0


def test_an_answer_under_way_is_finished(tmp_path: Path) -> None:
    """A request that came before the signal gets its answer."""
    with served(tmp_path, **EXTERNAL) as server, server.connect() as client:
        client.sendall(b"GET /slow/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.event("slow began")

        server.process.send_signal(signal.SIGTERM)

        assert b'"done"' in _all(client)
        assert server.ends() == 0


def test_a_second_signal_skips_the_waiting(tmp_path: Path) -> None:
    """Draining that would take for ever, requests that hang: the second signal ends them, and the app still closes."""
    slow = EXTERNAL | {"HOOKCAST_DRAIN_DELAY": "60", "HOOKCAST_DRAIN": "60", "STANDIN_DRAIN": "hang"}
    with served(tmp_path, **slow) as server, server.connect() as client:
        client.sendall(b"GET /slow/600 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.event("slow began")
        server.process.send_signal(signal.SIGINT)
        server.event("stopping")

        assert server.ends(signal.SIGINT, seconds=10) == 0

        assert server.event("closed")


def test_draining_is_bounded(tmp_path: Path) -> None:
    """An app that does not finish draining is cut short after its time, and its end still runs."""
    with served(tmp_path, **EXTERNAL | {"HOOKCAST_DRAIN": "0.2", "STANDIN_DRAIN": "hang"}) as server:
        server.event("listening")

        assert server.ends(signal.SIGTERM, seconds=10) == 0

        assert server.event("draining took too long and was cut short")
        assert server.event("closed")


def test_failing_to_drain_does_not_keep_it_from_closing(tmp_path: Path) -> None:
    """An error while draining is logged; the rest of the end takes place."""
    with served(tmp_path, **EXTERNAL | {"STANDIN_DRAIN": "fail"}) as server:
        server.event("listening")

        assert server.ends(signal.SIGTERM) == 0

        assert "drain is broken" in str(server.event("draining failed"))
        assert server.event("closed")


def test_a_dead_background_task_ends_it_with_status_1(tmp_path: Path) -> None:
    """The process says why, ends in order, and its supervisor sees a failure."""
    with served(tmp_path, **EXTERNAL | {"HOOKCAST_DRAIN_DELAY": "60"}) as server:
        httpx.post(f"{server.main}/die")

        assert server.ends() == 1

        line = server.event("a background task died; the process ends")
        assert "a task of the standin died" in line["exception"]
        assert server.event("closed")


def test_an_app_that_cannot_close_is_a_failure(tmp_path: Path) -> None:
    """An error at the lifespan's end is logged and gives exit status 1."""
    with served(tmp_path, **EXTERNAL | {"STANDIN_END": "fail"}) as server:
        server.event("listening")

        assert server.ends(signal.SIGTERM) == 1

        assert "the end is broken" in str(server.event("the app did not close in order"))


def test_an_app_that_cannot_start_is_a_failure(tmp_path: Path) -> None:
    """An unexpected error at the start is logged with its traceback and gives exit status 1."""
    with served(tmp_path, **EXTERNAL | {"STANDIN_START": "fail"}) as server:
        assert server.ends() == 1

        (line,) = [line for line in server.lines() if "start is broken" in str(line)]
        assert line["event"] == "hookcast failed"


def test_a_start_can_be_given_up(tmp_path: Path) -> None:
    """A signal while the app is still starting (a Redis that loads for minutes) ends it, cleaned up, with status 0."""
    with served(tmp_path, **EXTERNAL | {"STANDIN_START": "hang"}) as server:
        server.event("hanging")

        assert server.ends(signal.SIGTERM, seconds=10) == 0

        assert server.event("gave up")


def test_ctrl_c_with_the_embedded_redis_is_quick(tmp_path: Path) -> None:
    """A developer does not wait for the drain that a balancer needs, with nothing set."""
    with served(tmp_path) as server:
        server.event("listening")
        began = time.monotonic()

        assert server.ends(signal.SIGINT) == 0

        assert time.monotonic() - began < ENDS_WITHIN


def test_ctrl_c_does_not_wait_for_a_body_that_stalls(tmp_path: Path) -> None:
    """The real app, half an event: the end does not wait for it, and is told without a traceback."""
    with serving(tmp_path) as server:
        server.start()
        until(lambda: _answers(f"{server.url}/health/ready"))
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {server.api_key}\r\nContent-Length: 100\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
            client.sendall(b'{"type": "ord')
            began = time.monotonic()
            server.process.send_signal(signal.SIGINT)

            assert server.process.wait(20) == 0

            assert time.monotonic() - began < ENDS_WITHIN
            assert client.recv(65536).startswith(b"HTTP/1.1 503 ")
    log = server.log.read_text()
    assert "timeout graceful shutdown exceeded" in log
    assert "Exception in ASGI application" not in log
    assert "Traceback" not in log


def test_a_plain_request_for_the_websocket_is_told_to_upgrade(tmp_path: Path) -> None:
    """The real app: 426, and not 404, for what came to the right place in the wrong way."""
    with serving(tmp_path) as server:
        server.start()
        until(lambda: _answers(f"{server.url}/health/ready"))

        answers = [httpx.get(f"{server.url}{path}") for path in ("/connection/websocket", "/ws/c1")]

        assert server.stop() == 0
    for answer in answers:
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        assert answer.json()["reason"] == "UpgradeRequired"


def test_ctrl_c_does_not_wait_for_a_websocket_that_does_not_read(tmp_path: Path) -> None:
    """Its connection is aborted, and nothing has to be cancelled for it."""
    with served(tmp_path) as server, server.connect() as client:
        _stall(client)
        began = time.monotonic()

        assert server.ends(signal.SIGINT) == 0

        assert time.monotonic() - began < ENDS_WITHIN
        assert "Cancel" not in server.log.read_text()


def test_websockets_are_served(tmp_path: Path) -> None:
    """An upgrade passes our HTTP protocol, without compression, and outlives the time for a request's head."""
    with served(tmp_path, **EXTERNAL) as server, connect(server.main.replace("http", "ws") + "/echo") as client:
        client.send("hello")

        assert client.recv() == "hello"
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


def test_an_endless_head_is_refused(tmp_path: Path) -> None:
    """A header of 10 MB gets 431 before it is read to its end."""
    with served(tmp_path, **EXTERNAL) as server, server.connect() as client:
        client.sendall(b"GET /which HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 60_000)
        client.sendall(b"a" * 10_000)

        assert _all(client).startswith(b"HTTP/1.1 431 ")


def test_endless_chunk_framing_and_trailers_are_refused(tmp_path: Path) -> None:
    """What is neither head nor body is bounded too."""
    with served(tmp_path, **EXTERNAL) as server, server.connect() as client:
        client.sendall(b"POST /slow/30 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: ")
        until(lambda: _sends_nothing_more(client))


def test_a_slow_head_is_closed(tmp_path: Path) -> None:
    """A connection that owes the rest of its request's head gets 408 in time; one that never speaks is closed too."""
    with served(tmp_path, **EXTERNAL) as server, server.connect() as slow, server.connect() as silent:
        slow.sendall(b"GET /which HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b'"main"' not in received:
            received += slow.recv(65536)
        slow.sendall(b"GET /which HTTP/1.1\r\nHo")

        assert _all(slow).startswith(b"HTTP/1.1 408 ")
        assert _all(silent).startswith(b"HTTP/1.1 408 ")


def test_an_unexpected_error_is_logged_once_and_redacted(tmp_path: Path) -> None:
    """The client gets a correlation id and no details; the log has the traceback under it, without the secret."""
    with served(tmp_path, **EXTERNAL) as server:
        answer = httpx.get(f"{server.main}/break")

        assert answer.status_code == 500
        problem = answer.json()
        assert problem["reason"] == "Internal"
        assert problem["correlation_id"] == answer.headers["x-correlation-id"]
        line = server.event("request failed")
        assert line["correlation_id"] == problem["correlation_id"]
        assert "whsec_[redacted] inside" in line["exception"]
        assert server.log.read_text().count("Traceback") == 1
        assert "c2VjcmV0" not in server.log.read_text() + answer.text


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _stall(client: socket.socket) -> None:
    """Opens the echo and sends, without reading, until the server cannot answer any more and so reads no more."""
    client.sendall(
        b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
    client.settimeout(1)
    message = bytes((0x81, 0x80 | 126)) + (60_000).to_bytes(2) + bytes(4) + b"x" * 60_000
    with pytest.raises(TimeoutError):
        client.sendall(message * 1_000)


def _all(client: socket.socket) -> bytes:
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def _sends_nothing_more(client: socket.socket) -> bool:
    try:
        client.sendall(b"a" * 65_536)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False
