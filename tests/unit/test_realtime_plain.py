"""Typed messages: paths, what clients say and are told, and ids of events, without a server."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from hookcast_app.realtime import plain_protocol
from hookcast_app.realtime.event_ids import MAX_ID, PIECE_BYTES, UNKNOWN, EventIds, read_id, read_position, shown
from hookcast_app.realtime.framing import ENCODERS, PUSHES, Encoding, encoded, frame, messages_of
from hookcast_app.realtime.hub import Hub
from hookcast_app.realtime.plain_protocol import EVERYBODY, Place, direct_channel, message, place_of
from hookcast_app.realtime.positions import Position, offset_of
from hookcast_app.realtime.protocol import encode_publication, join_push, leave_push, unsubscribe_push
from hookcast_app.realtime.sse import EventStream
from hookcast_app.realtime.stats import Stats
from hookcast_core.channels import is_channel_name
from hookcast_core.errors import InvalidInput

CLIENT, CHAT = "/ws/{client_id}", "/ws/chat/{room}/{user}"
ANN = plain_protocol.client_info("ann", "c1", {"name": "Ann"})
GUEST = plain_protocol.client_info("", "x", plain_protocol.unproven("guest"))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/ws/c1", Place(CLIENT, EVERYBODY, client="c1")),
        ("/ws/chat", Place(CLIENT, EVERYBODY, client="chat")),
        ("/ws/a%3Ab", Place(CLIENT, EVERYBODY, client="a:b")),
        ("/ws/chat/r/ann", Place(CHAT, "chat:r", user="ann")),
        ("/ws/chat/r%23ann,bob/a%2Fb", Place(CHAT, "chat:r#ann,bob", user="a/b")),
        ("/ws/chat/r/%C3%A9", Place(CHAT, "chat:r", user="é")),
        ("/ws/", None),
        ("/ws", None),
        ("/other/c1", None),
        ("/ws/a%0Ab", None),
        ("/ws/chat/%20/ann", None),
        ("/ws/chat/r/", None),
        ("/ws/chat/" + "r" * 251 + "/ann", None),
    ],
)
def test_paths(path: str, place: Place | None) -> None:
    """Segments are decoded after they are told apart."""
    assert place_of(path) == place


def test_messages_tell_who_sent_them() -> None:
    """By client id where clients have one, else by user; a name that is not proved is marked; the server has none."""
    publication = encode_publication(b'{"a":1}', ANN)

    def told(channel: str, publication: bytes) -> Any:
        return json.loads(message(channel, publication))

    assert told("chat:r", publication) == {"type": "message", "from": "ann", "data": {"a": 1}}
    assert told(EVERYBODY, publication) == {"type": "message", "from": "c1", "user": "ann", "data": {"a": 1}}
    assert told(direct_channel("c2"), publication)["type"] == "direct"
    assert told("chat:r", encode_publication(b"1", GUEST))["from"] == "guest"
    assert told("chat:r", encode_publication(b"1", GUEST))["anonymous"]
    assert told("chat:r", b'{"offset":7,"data":1}') == {"type": "message", "data": 1, "offset": 7}


def test_names_of_users_are_not_taken_from_what_they_say_of_themselves() -> None:
    """Only of an anonymous client, which has no other; it may be of any kind."""
    proved = plain_protocol.client_info("ann", "c1", {"name": "bob"})
    assert json.loads(message("chat:r", encode_publication(b"1", proved)))["from"] == "ann"
    strange: list[Any] = ["text", 1, [], {"name": 1}, {}, None]
    for said in strange:
        info = plain_protocol.client_info("", "c1", said)
        assert json.loads(message("chat:r", encode_publication(b"1", info)))["from"] == ""


def test_binary_content_comes_back_as_it_was() -> None:
    """What only looks like it stays what it is."""
    publication = plain_protocol.binary_publication(b"\x00\xff", ANN)
    assert message("chat:r", publication) == b"\x00\xff"
    assert json.loads(publication)["data"] == {"binary": "AP8="}
    for data in ('{"binary":"AP8="}', '{"binary":1}', '{"binary":"?"}', "1"):
        tags = b"" if data.endswith('AP8="}') else b',"tags":{"content":"binary"}'
        shown_message = message("chat:r", b'{"data":%b%b}' % (data.encode(), tags))
        assert json.loads(shown_message)["data"] == json.loads(data)


def test_comings_are_told_and_other_pushes_are_not() -> None:
    """Nor what is no push at all."""
    push = PUSHES[Encoding.TYPED_FRAMES]
    [joined] = messages_of(push(join_push("chat:r", ANN)))
    assert json.loads(joined) == {"type": "join", "user": "ann"}
    [left] = messages_of(push(leave_push(EVERYBODY, ANN)))
    assert json.loads(left) == {"type": "leave", "client": "c1", "user": "ann"}
    assert push(unsubscribe_push("chat:r", 2500, "x")) == push(b"nonsense") == b""


def test_members_are_named_once_and_in_order() -> None:
    """As messages of theirs name them."""
    other = plain_protocol.client_info("ann", "c0", None)
    assert plain_protocol.members("chat:r", [ANN, GUEST, other]) == ["ann", "guest"]
    assert plain_protocol.members(EVERYBODY, [ANN, other]) == ["c0", "c1"]


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"type":1}', '{"type":"a","to":1}', "[" * 100_000, "\ud800"])
def test_what_is_no_message_is_refused(text: str) -> None:
    """With words that repeat nothing of it."""
    with pytest.raises(InvalidInput):
        plain_protocol.parse(text)


def test_direct_channels_are_no_channels_of_clients() -> None:
    """So that nobody can listen to them."""
    assert not is_channel_name(direct_channel("c1"))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_frames_are_taken_apart_as_they_were_put_together(size: int) -> None:
    """For a server that makes its own."""
    text, content = "x" * size, b"\x81" * size
    joined = frame(text.encode()) + frame(content, 0x82) + frame(b"end")
    assert list(messages_of(joined)) == [text, content, "end"]


def test_events_have_ids_where_publications_have_offsets() -> None:
    """Their epoch comes from outside."""
    publication = b'{"offset":7,"data":1}'
    assert ENCODERS[Encoding.EVENTS]("a", publication, "e") == b"id: e:7\ndata: 1\n\n"
    assert ENCODERS[Encoding.EVENTS]("a", publication, "") == b"data: 1\n\n"
    named = ENCODERS[Encoding.NAMED_EVENTS]("a", publication, "e")
    assert named == b'id: a e:7\ndata: {"channel":"a","data":1}\n\n'
    assert offset_of(publication) == 7
    assert offset_of(b'{"data":{"offset":7}}') == 0


def test_what_cannot_be_read_of_a_history_is_left_out() -> None:
    """It is no JSON, has no data, or is nested too deep."""
    publications = [b"nonsense", b"{}", b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}", b'{"data":1}']
    for encoding in (Encoding.EVENTS, Encoding.NAMED_EVENTS, Encoding.TYPED_FRAMES):
        assert len(list(encoded(encoding, "a", publications, ""))) == 1


def test_an_id_has_all_positions_in_the_order_of_names() -> None:
    """Each event moves its own channel's; comments and events without an id move nothing."""
    ids = EventIds()
    ids.begin("b", Position(1, "f"))
    ids.begin("a", Position(2, "e"))
    assert ids.current == "e:2,f:1"
    events = b"id: b f:2\ndata: 1\n\n: ping\n\nid: a e:3\nevent: reset\ndata: 2\n\n"
    numbered = b"id: e:2,f:2\ndata: 1\n\n: ping\n\nid: e:3,f:2\nevent: reset\ndata: 2\n\n"
    assert b"".join(ids.numbered(events)) == numbered
    assert read_id("e:3,f:2", ["b", "a"]) == {"a": Position(3, "e"), "b": Position(2, "f")}


def test_ids_are_given_in_pieces() -> None:
    """They may be longer than the events."""
    ids = EventIds()
    for number in range(128):
        ids.begin(f"c{number}", Position(2**53, "0a1b2c3d"))
    assert len(ids.current) < MAX_ID
    pieces = list(ids.numbered(b"id: c1 0a1b2c3d:1\ndata: 1\n\n" * 100))
    assert len(pieces) > 1
    assert all(len(piece) < PIECE_BYTES + MAX_ID for piece in pieces)
    assert b"".join(pieces).count(b"data: 1\n\n") == 100


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:1:2", "a:-1", "a:1 ", "a b:1", "é:1", "a:٣", "a:1\n"])
def test_what_is_no_position_is_none(text: str) -> None:
    """And a channel of such an id begins anew."""
    assert read_position(text) is None
    assert read_id(text, ["x"]) == {"x": UNKNOWN}
    assert read_position(shown(Position(5, "e"))) == Position(5, "e")


async def test_an_event_stream_tells_a_gap_after_what_came_before_it() -> None:
    """What the hub still holds has older ids: after them a reader would come back to where it was."""
    hub = Hub(Stats())
    context: Any = SimpleNamespace(hub=hub, broker=SimpleNamespace(position=lambda _: Position(9, "f")))
    stream = EventStream(["a"], Encoding.EVENTS, context, since={}, expires_at=None)
    hub.subscribe("a", stream)
    hub.publish("a", b'{"offset":1,"data":1}', "e")

    stream.interrupted("a")

    assert await stream._outbox.take() == b'id: e:1\ndata: 1\n\nid: f:9\nevent: reset\ndata: {"channel": "a"}\n\n'
