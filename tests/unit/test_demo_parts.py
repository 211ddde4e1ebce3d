"""The demo's parts on their own: what a newcomer reads when something is not as usual."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from hookcast_app.demo import samples, texts
from hookcast_app.demo.receiver import Receiver
from hookcast_app.demo.samples import open_samples
from hookcast_app.demo.screen import Screen
from hookcast_app.demo.subscriber import Subscriber
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.signing import parse_secret, sign

KEY = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
NOW_MS = 1_800_000_000_000
MANIFEST = "url: http://127.0.0.1:9000/webhooks/orders # and http://127.0.0.1:90001/"


def never() -> None:
    """Nobody stops reading in these tests."""
    raise AssertionError("the screen said that nobody reads")


# The receiver


async def post(
    body: bytes, *, signed: bytes | None = None, media_type: str = "application/json"
) -> tuple[httpx.Response, str]:
    """Posts to a receiver with a signature over `signed` (the body); the answer and what the terminal shows."""
    stream = io.StringIO()
    receiver = Receiver(lambda path: [KEY] if path == "/hook" else [], Screen(stream, never), lambda: NOW_MS)
    seconds = NOW_MS // 1000
    signature = sign(KEY, "msg_1", seconds, body if signed is None else signed)
    content = {"webhook-id": "msg_1", "webhook-timestamp": str(seconds), "webhook-signature": signature}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://receiver") as client:
        answer = await client.post(
            "/hook", content=body, headers={**content, "x-hookcast-event": "a.b", "content-type": media_type}
        )
    return answer, stream.getvalue()


@pytest.mark.parametrize(
    ("body", "media_type", "shown"),
    [
        (b'{"type": "a.b", "data": {"id": 1}}', "application/cloudevents+json", '{"id":1}'),
        (b'{"type": "a.b", "data_base64": "AQI="}', "application/cloudevents+json", '"AQI="'),
        (b'{"id": 1}', "application/json", '{"id":1}'),
        (b"not JSON", "text/plain", '"not JSON"'),
        (b"", "text/plain", "null"),
    ],
)
async def test_a_verified_webhook_shows_its_data(body: bytes, media_type: str, shown: str) -> None:
    """The data is shown, whether the body is the whole event or the data alone; the answer is 204."""
    answer, terminal = await post(body, media_type=media_type)

    assert answer.status_code == 204
    assert terminal == f"webhook verified: POST /hook a.b {shown}\n"


async def test_another_body_than_was_signed_is_refused() -> None:
    """401, shown as not verified."""
    answer, terminal = await post(b'{"amount": 1000}', signed=b'{"amount": 1}')

    assert answer.status_code == 401
    assert terminal.startswith("webhook NOT verified: POST /hook: no signature")


async def test_a_browser_is_told_what_the_receiver_is_for() -> None:
    """GET gets 405 and a sentence, and is not shown."""
    stream = io.StringIO()
    receiver = Receiver(lambda _path: [KEY], Screen(stream, never), lambda: NOW_MS)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://receiver") as client:
        answer = await client.get("/")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert stream.getvalue() == ""


# The subscriber


@asynccontextmanager
async def listening(*conversation: list[str]) -> AsyncIterator[tuple[Subscriber, list[str], io.StringIO]]:
    """A subscriber of a server that, on each connection in turn, answers the commands with these messages and closes.

    Gives the subscriber, what it sent, and the terminal.
    """
    sent: list[str] = []
    remaining = list(conversation)

    async def handle(connection: ServerConnection) -> None:
        if not remaining:
            await connection.wait_closed()
            return
        for message in remaining.pop(0):
            sent.append(str(await connection.recv()))
            await connection.send(message)
        sent.append(str(await connection.recv()))
        await connection.close(3001, "shutdown")

    stream = io.StringIO()
    async with serve(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield Subscriber(f"ws://127.0.0.1:{port}/", "orders", Screen(stream, never)), sent, stream


async def test_the_subscriber_answers_pings_and_subscribes_again_when_told() -> None:
    """A ping gets its pong; after an unsubscribe push messages may be missing, so it subscribes again."""
    subscribed = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{}}\n{}'
    pushed = {"channel": "orders", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}

    async with listening([subscribed, json.dumps({"push": pushed})]) as (subscriber, sent, _):
        await asyncio.wait_for(subscriber.run(lambda: False), 10)

    subscribe = {"id": 2, "subscribe": {"channel": "orders"}}
    assert subscriber.subscribed.is_set()
    assert sent[0].splitlines()[0] == '{"id":1,"connect":{}}'
    assert [json.loads(line) for line in sent[0].splitlines()[1:] + sent[1:]] == [subscribe, {}, subscribe]


async def test_the_subscriber_comes_back_after_a_disconnect() -> None:
    """While it is wanted it connects again, and it shows what comes then."""
    publication = {"push": {"channel": "orders", "pub": {"data": {"type": "a.b", "data": {"id": 7}}}}}
    first, second = ['{"id":2,"subscribe":{}}\n{}'], [json.dumps(publication) + "\n{}"]
    wanted = iter([True, False])

    async with listening(first, second) as (subscriber, _, stream):
        await asyncio.wait_for(subscriber.run(lambda: next(wanted)), 10)

    assert stream.getvalue() == 'websocket:        orders ← a.b {"id":7}\n'


async def test_a_refused_subscription_is_shown() -> None:
    """The server's own words for why nothing will come."""
    refusal = '{"id":2,"error":{"code":103,"message":"permission denied"}}\n{}'

    async with listening([refusal]) as (subscriber, _, stream):
        await asyncio.wait_for(subscriber.run(lambda: False), 10)

    assert stream.getvalue() == 'websocket:        refused: {"code":103,"message":"permission denied"}\n'
    assert not subscriber.subscribed.is_set()


# The samples


def source(directory: Path) -> Path:
    """A directory of manifests."""
    path = directory / "source"
    path.mkdir()
    (path / "orders.yaml").write_text(MANIFEST)
    (path / "notes.txt").write_text(MANIFEST)
    return path


def test_the_samples_are_used_as_they_are_where_their_port_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy, so that an edit of a sample takes effect."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    monkeypatch.setattr(samples, "PORT", free)

    opened = open_samples({}, tmp_path / "data", source(tmp_path))

    with opened.listener:
        assert (opened.directory, opened.port, opened.is_moved) == (tmp_path / "source", free, False)
        assert not (tmp_path / "data").exists()
    opened.close()
    assert (tmp_path / "source").exists()


def test_the_samples_move_to_a_free_port_where_theirs_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be set to see the demo; the copy goes with the run."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(samples, "PORT", taken)
        text = MANIFEST.replace("9000/", f"{taken}/")
        (source(tmp_path) / "orders.yaml").write_text(text)

        opened = open_samples({}, tmp_path / "data", tmp_path / "source")

    with opened.listener:
        assert opened.is_moved
        assert opened.port != taken
        assert [file.name for file in opened.directory.iterdir()] == ["orders.yaml"]
        copied = (opened.directory / "orders.yaml").read_text()
        assert copied == text.replace(f":{taken}/", f":{opened.port}/")

    opened.close()

    assert not opened.directory.exists()


def test_two_runs_do_not_share_a_copy(tmp_path: Path) -> None:
    """A second start, which the data directory's lock will refuse, leaves alone what the first one watches."""
    environment = {"HOOKCAST_RECEIVER_PORT": "0"}
    first = open_samples(environment, tmp_path / "data", source(tmp_path))
    before = (first.directory / "orders.yaml").read_text()

    second = open_samples(environment, tmp_path / "data", tmp_path / "source")
    second.close()

    assert (first.directory / "orders.yaml").read_text() == before
    first.close()


def test_a_copy_of_a_run_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    """Nothing of it is taken for a sample; and the samples themselves stay when the run ends."""
    killed = open_samples({"HOOKCAST_RECEIVER_PORT": "0"}, tmp_path / "data", source(tmp_path))
    (killed.directory / "stale.yaml").touch()
    killed.listener.close()

    opened = open_samples({"HOOKCAST_RECEIVER_PORT": str(killed.port)}, tmp_path / "data", tmp_path / "source")

    assert [file.name for file in opened.directory.iterdir()] == ["orders.yaml"]
    opened.close()
    assert (tmp_path / "source" / "orders.yaml").exists()


def test_the_watched_directory_is_shown_as_it_is_typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short within the current directory, whole elsewhere."""
    opened = open_samples({"HOOKCAST_RECEIVER_PORT": "0"}, tmp_path / "data", source(tmp_path))

    monkeypatch.chdir(tmp_path)
    assert opened.shown == f"data/samples-{opened.port}"
    monkeypatch.chdir(tmp_path / "source")
    assert opened.shown == str(opened.directory)
    opened.close()


def test_without_the_samples_it_says_how_to_start_without_them(tmp_path: Path) -> None:
    """An installed package has no samples."""
    with pytest.raises(InvalidInput, match="the demo runs from a checkout") as caught:
        open_samples({}, tmp_path / "data", tmp_path / "source")

    assert texts.refused(caught.value).startswith(str(tmp_path / "source"))


@pytest.mark.parametrize("port", ["x", "-1", "65536", "٣"])
def test_a_receiver_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    """The setting is named, nothing listens."""
    with pytest.raises(InvalidInput) as caught:
        open_samples({"HOOKCAST_RECEIVER_PORT": port}, tmp_path / "data", source(tmp_path))

    assert caught.value.field == "receiver_port"


def test_a_copy_that_cannot_be_written_names_the_data_directory(tmp_path: Path) -> None:
    """A file in the place of the copy's directory; the port is free again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"samples-{port}").touch()

    with pytest.raises(InvalidInput) as caught:
        open_samples({"HOOKCAST_RECEIVER_PORT": str(port)}, tmp_path / "data", source(tmp_path))

    assert caught.value.reason is Reason.DATA_DIR_UNUSABLE


def test_another_failure_to_listen_is_no_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the receiver may not listen at all, no other port is tried in silence."""
    monkeypatch.setattr(samples, "HOST", "192.0.2.1")

    with pytest.raises(InvalidInput) as caught:
        open_samples({}, tmp_path / "data", source(tmp_path))

    assert caught.value.reason is Reason.INVALID_SETTING


# The terminal


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"a": "ü"}, '{"a":"ü"}'),
        ("\x1b[2J\u202e", '"\\u001b[2J�"'),
        ("x" * 200, '"' + "x" * (texts.MAX_SHOWN - 1) + "…"),
    ],
)
def test_what_came_over_the_network_cannot_move_the_cursor(data: Any, shown: str) -> None:
    """Data is shown on one line, short, without control characters."""
    assert texts.compact(data) == shown


def test_a_message_that_is_no_event_is_shown_as_it_is() -> None:
    """Clients may publish any JSON on a channel."""
    assert texts.live("chat", "hello") == 'websocket:        chat ← "hello"'


def test_texts_for_when_something_is_wrong() -> None:
    """Each names what to look at."""
    assert "GET /api/v1/deliveries" in texts.missing(10)
    assert "HTTP Error 503" in texts.not_published(OSError("HTTP Error 503"))
    assert texts.moved(9000, 9001, "somewhere") == (
        "Port 9000 is in use, so the webhooks go to 9001. "
        "A copy of the samples with that port is watched until this ends: somewhere"
    )
    assert texts.refused(InvalidInput(Reason.INVALID_SETTING, "port", "no")) == "HOOKCAST_PORT: no"


def test_a_screen_that_nobody_reads_says_so_once() -> None:
    """The first line that meets a closed pipe ends the demo; later ones are not tried."""
    gone: list[bool] = []

    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    screen = Screen(Closed(), lambda: gone.append(True))

    screen.show("one")
    screen.arrived("webhook", "two")

    assert gone == [True]


async def test_waiting_for_arrivals_ends_when_all_are_there() -> None:
    """Not before, and whatever their order."""
    screen = Screen(io.StringIO(), never)
    waiting = asyncio.create_task(screen.wait(webhooks=1, messages=1))
    await asyncio.sleep(0)

    screen.arrived("websocket", "a")
    await asyncio.sleep(0)
    assert not waiting.done()

    screen.arrived("webhook", "b")
    await asyncio.wait_for(waiting, 10)
