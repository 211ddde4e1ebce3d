"""What follows from each command, without a server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.auth import Identity
from hookcast_app.realtime import protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.positions import NOWHERE, Caught
from hookcast_app.realtime.protocol import BadMessage, parse_commands
from hookcast_app.realtime.session import (
    Authenticate,
    Close,
    Connected,
    Effect,
    Publish,
    Reply,
    Session,
    Subscribe,
    Unsubscribe,
)
from hookcast_app.settings import ChannelOptions

BAD_REQUEST = [Close(protocol.BAD_REQUEST)]


def session(*, anonymous: bool = True) -> Session:
    rules = ChannelRules({"": ChannelOptions(subscribe="anyone", publish="subscribers")})
    return Session("c1", rules=rules, anonymous=anonymous, version="v", ping=25)


def connected() -> Session:
    client = session()
    do(client, {"id": 1, "connect": {}})
    return client


def do(client: Session, *commands: Any) -> list[Effect]:
    message = "\n".join(json.dumps(command) for command in commands)
    return [effect for command in parse_commands(message) for effect in client.handle(command)]


def error(effects: list[Effect]) -> int:
    """The code of the one error reply."""
    [effect] = effects
    assert isinstance(effect, Reply)
    code: int = json.loads(effect.line)["error"]["code"]
    return code


@pytest.mark.parametrize("command", [{}, {"id": 1}, {"id": 1, "subscribe": {"channel": "a"}}, {"send": {"data": 1}}])
def test_the_first_command_must_be_connect(command: Any) -> None:
    """Anything else ends the connection."""
    assert do(session(), command) == BAD_REQUEST


@pytest.mark.parametrize(
    "command",
    [
        {"id": 2, "connect": {}},
        {"subscribe": {"channel": "a"}},
        {},
        {"foo": {}},
        {"id": 2, "subscribe": {}},
        {"id": 2, "unsubscribe": {}},
        {"id": 2, "publish": {"channel": "a"}},
        {"id": 2, "publish": {"data": 1}},
    ],
)
def test_commands_that_break_the_protocol_end_the_connection(command: Any) -> None:
    """Connecting twice, no id, an answer to no ping, no channel, no data."""
    assert do(connected(), command) == BAD_REQUEST


def test_messages_to_the_server_are_not_offered() -> None:
    """`send` has no reply to carry an error, so it ends the connection with the code for that."""
    assert do(connected(), {"send": {"data": 1}}) == [Close(protocol.NOT_OFFERED)]


@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "rpc", "refresh", "sub_refresh"])
def test_what_is_not_offered_is_answered_so(method: str) -> None:
    """The protocol knows it, this server does not: 108."""
    assert error(do(connected(), {"id": 2, method: {"channel": "a"}})) == 108


@pytest.mark.parametrize("command", [{"id": 2}, {"id": 2, "novelty": {}}])
def test_unknown_commands_are_answered_so(command: Any) -> None:
    """A newer client can go on without: 104."""
    assert error(do(connected(), command)) == 104


def test_a_token_is_verified_before_anything_is_answered() -> None:
    """The session asks for it, and goes on as the identity that comes back."""
    client = session(anonymous=False)

    assert do(client, {"id": 1, "connect": {"token": "t"}}) == [Authenticate(1, "t")]
    reply, ready = client.authenticated(1, Identity("ann"))
    assert isinstance(reply, Reply)
    assert json.loads(reply.line)["connect"]["client"] == "c1"
    assert ready == Connected()
    assert client.identity.user == "ann"


def test_after_a_refused_connect_nothing_is_answered() -> None:
    """The client reads the error and goes; what else it sends ends the connection."""
    client = session(anonymous=False)

    assert error(do(client, {"id": 1, "connect": {}})) == 101
    for command in ({"id": 2, "connect": {"token": "t"}}, {"id": 3, "subscribe": {"channel": "a"}}):
        assert do(client, command) == BAD_REQUEST


CAUGHT = Caught(NOWHERE, [], is_all=False)


def subscription(command_id: int) -> Subscribe:
    """To a channel without options."""
    return Subscribe(command_id, "a", since=None, hears_comings=False, info=None, announces=False)


def test_a_channel_is_subscribed_once() -> None:
    """Also while the first subscription is on its way; one that failed can be tried again."""
    client = connected()

    assert do(client, {"id": 2, "subscribe": {"channel": "a"}}) == [subscription(2)]
    assert error(do(client, {"id": 3, "subscribe": {"channel": "a"}})) == 105
    assert error(client.subscribe_failed(2, "a", protocol.INTERNAL)) == 100
    assert do(client, {"id": 4, "subscribe": {"channel": "a"}}) == [subscription(4)]
    assert client.subscribed(subscription(4), CAUGHT) == [Reply(b'{"id":4,"subscribe":{}}')]


def test_unsubscribing_from_nothing_is_answered_as_if_it_were_something() -> None:
    """The client is where it wants to be."""
    assert do(connected(), {"id": 2, "unsubscribe": {"channel": "a"}}) == [Reply(b'{"id":2,"unsubscribe":{}}')]


def test_an_interrupted_channel_is_left_so_that_the_client_can_come_back() -> None:
    """Code 2500 makes stock clients subscribe again; a channel that was left meanwhile is nobody's business."""
    client = connected()
    do(client, {"id": 2, "subscribe": {"channel": "a"}})

    unsubscribe, push = client.interrupted("a")
    assert unsubscribe == Unsubscribe("a")
    assert isinstance(push, Reply)
    assert json.loads(push.line)["push"] == {
        "channel": "a",
        "unsubscribe": {"code": 2500, "reason": "insufficient state"},
    }
    assert client.interrupted("a") == []
    assert do(client, {"id": 3, "subscribe": {"channel": "a"}}) == [subscription(3)]


def test_a_publication_says_who_sent_it() -> None:
    """With the user's public info if the token had some; the data is passed on as it was sent."""
    client = session()
    client.authenticated(1, Identity("ann", info=[1]))
    do(client, {"id": 2, "subscribe": {"channel": "a"}})

    [plain] = do(connected_and_subscribed(), {"id": 3, "publish": {"channel": "a", "data": {"x": 1}}})
    [informed] = do(client, {"id": 3, "publish": {"channel": "a", "data": None}})

    assert plain == Publish(3, "a", b'{"data":{"x": 1},"info":{"user":"","client":"c1"}}')
    assert informed == Publish(3, "a", b'{"data":null,"info":{"user":"ann","client":"c1","conn_info":[1]}}')
    assert client.published(3) == [Reply(b'{"id":3,"publish":{}}')]
    assert error(client.failed(3, protocol.INTERNAL)) == 100


def connected_and_subscribed() -> Session:
    client = connected()
    do(client, {"id": 2, "subscribe": {"channel": "a"}})
    return client


def test_publishing_on_what_is_no_channel_is_a_bad_request() -> None:
    """107, the connection goes on."""
    assert error(do(connected(), {"id": 2, "publish": {"channel": "a b", "data": 1}})) == 107


def test_a_ping_wants_one_answer() -> None:
    """In time, and only one."""
    client = connected()

    assert client.ping() == [Reply(b"{}")]
    assert client.pong_due() == [Close(protocol.NO_PONG)]
    assert do(client, {}) == []
    assert client.pong_due() == []
    assert do(client, {}) == BAD_REQUEST


@pytest.mark.parametrize(
    "message",
    [
        "",
        "\n \n",
        "x",
        "[]",
        "1",
        '{"id":1.5}',
        '{"id":4294967296}',
        '{"connect":1}',
        '{"id":1,"rpc":{"a":' + "[" * 5000,
    ],
)
def test_what_is_no_command_is_refused(message: str) -> None:
    """Whatever it is, it is one kind of error."""
    with pytest.raises(BadMessage):
        list(parse_commands(message))


def test_blank_lines_between_commands_do_not_matter() -> None:
    """Clients may end their message with a line break."""
    assert [command.id for command in parse_commands('{"id":1}\n\n{"id":2}\r\n')] == [1, 2]


@given(st.text())
def test_no_text_breaks_the_parser(message: str) -> None:
    """Any text is commands or a BadMessage."""
    try:
        commands = list(parse_commands(message))
    except BadMessage:
        return
    assert commands


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES, st.sampled_from([None, 1, "\t"]))
def test_any_json_is_published_unchanged_on_one_line(value: Any, indent: int | str | None) -> None:
    """However the publisher laid it out."""
    data = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")

    publication = protocol.encode_publication(data.replace(b"\n", b"\r\n"))
    push = protocol.publication_push("a", publication)

    assert b"\n" not in push
    assert b"\r" not in push
    decoded = json.loads(push.decode("utf-8", "surrogatepass"))
    assert decoded == {"push": {"channel": "a", "pub": {"data": value}}}
