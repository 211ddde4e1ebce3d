"""What follows from each command, without a server."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.auth import Grant, Identity, Override, SubscribeOptions
from hookcast_app.auth.identity import Switch
from hookcast_app.realtime import control, protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.effects import (
    Authenticate,
    AuthenticateAgain,
    AuthenticateSubscriptionAgain,
    Close,
    Connect,
    Connected,
    Effect,
    Greet,
    Lasts,
    Listening,
    Publish,
    Reply,
    Subscribe,
    SubscribeAsTold,
    Unsubscribe,
)
from hookcast_app.realtime.positions import NOWHERE, Caught, Position
from hookcast_app.realtime.protocol import BadMessage, parse_commands
from hookcast_app.realtime.session import Session
from hookcast_app.rpc import Call, Methods
from hookcast_app.settings import ChannelOptions

BAD_REQUEST = [Close(protocol.BAD_REQUEST)]


NOW = 1_000.0


def session(*, anonymous: bool = True, methods: Methods | None = None) -> Session:
    rules = ChannelRules(
        {
            "": ChannelOptions(subscribe="anyone", publish="subscribers"),
            "kept": ChannelOptions(subscribe="anyone", history_size=10, recover=True, join_leave=True, presence=True),
        }
    )
    return Session("c1", rules=rules, anonymous=anonymous, version="v", ping=25, clock=lambda: NOW, methods=methods)


def line(effect: Effect) -> Any:
    """What a reply says."""
    assert isinstance(effect, Reply)
    return json.loads(effect.line)


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
        {"id": 2},
        {"id": 2, "novelty": {}},
        {"id": 2, "refresh": {"token": "t"}},
        {"id": 2, "sub_refresh": {"token": "t"}},
        {"id": 2, "subscribe": {}},
        {"id": 2, "unsubscribe": {}},
        {"id": 2, "publish": {"channel": "a"}},
        {"id": 2, "publish": {"data": 1}},
    ],
)
def test_commands_that_break_the_protocol_end_the_connection(command: Any) -> None:
    """Connecting twice, no id or method, an answer to no ping, no channel, no data, nothing to refresh."""
    assert do(connected(), command) == BAD_REQUEST


def test_messages_to_the_server_are_not_offered() -> None:
    """`send` has no reply to carry an error, so it ends the connection with the code for that."""
    assert do(connected(), {"send": {"data": 1}}) == [Close(protocol.NOT_OFFERED)]


@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "rpc"])
def test_what_is_not_offered_is_answered_so(method: str) -> None:
    """The protocol knows it, this server does not: 108."""
    assert error(do(connected(), {"id": 2, method: {"channel": "a"}})) == 108


def test_a_token_is_verified_before_anything_is_answered() -> None:
    """The session asks for it, and goes on as the identity that comes back."""
    client = session(anonymous=False)

    assert do(client, {"id": 1, "connect": {"token": "t"}}) == [Authenticate(1, "t")]
    reply, ready, lasts = client.authenticated(1, Identity("ann"))
    assert line(reply)["connect"] == {"client": "c1", "version": "v", "ping": 25, "pong": True}
    assert (ready, lasts) == (Connected(), Lasts(None))
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
    return Subscribe(command_id, Listening("a"))


def test_a_channel_is_subscribed_once() -> None:
    """Also while the first subscription is on its way; one that failed can be tried again."""
    client = connected()

    assert do(client, {"id": 2, "subscribe": {"channel": "a"}}) == [subscription(2)]
    assert error(do(client, {"id": 3, "subscribe": {"channel": "a"}})) == 105
    assert error(client.subscribe_failed(subscription(2), protocol.INTERNAL)[1:]) == 100
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


def connected_and_subscribed() -> Session:
    client = connected()
    do(client, {"id": 2, "subscribe": {"channel": "a"}})
    return client


def test_publishing_on_what_is_no_channel_is_a_bad_request() -> None:
    """107, the connection goes on."""
    assert error(do(connected(), {"id": 2, "publish": {"channel": "a b", "data": 1}})) == 107


def test_an_expiring_identity_is_announced_and_refreshed() -> None:
    """By a token of the same user only; the connection then lasts as long as that one."""
    client = session()
    do(client, {"id": 1, "connect": {"token": "t"}})

    reply, _, lasts = client.authenticated(1, Identity("ann", expires_at=NOW + 60))
    assert line(reply)["connect"].items() >= {"expires": True, "ttl": 60}.items()
    assert lasts == Lasts(NOW + 60)
    assert do(client, {"id": 2, "refresh": {"token": "u"}}) == [AuthenticateAgain(2, "u")]
    reply, lasts = client.refreshed(2, Identity("ann", expires_at=NOW + 90))
    assert (line(reply), lasts) == ({"id": 2, "refresh": {"expires": True, "ttl": 90}}, Lasts(NOW + 90))
    assert client.refreshed(3, Identity("bob")) == [Close(protocol.INVALID_TOKEN)]
    assert client.expired("") == [Close(protocol.EXPIRED)]


def test_an_expiring_subscription_is_refreshed_or_ends() -> None:
    """2501 makes stock clients get another token; what has no token has nothing to refresh."""
    client = connected()
    [subscribe] = client.granted(2, protocol.SubscribeRequest("a"), Grant("a", "", expires_at=NOW + 60))
    assert isinstance(subscribe, Subscribe)

    reply, lasts = client.subscribed(subscribe, CAUGHT)
    assert (line(reply)["subscribe"], lasts) == ({"expires": True, "ttl": 60}, Lasts(NOW + 60, "a"))
    assert do(client, {"id": 3, "sub_refresh": {"channel": "a", "token": "u"}}) == [
        AuthenticateSubscriptionAgain(3, "", "a", "u")
    ]
    reply, lasts = client.regranted(3, "a", Grant("a", ""))
    assert (line(reply), lasts) == ({"id": 3, "sub_refresh": {}}, Lasts(None, "a"))
    left, push = client.expired("a")
    assert left == Unsubscribe("a")
    assert line(push)["push"]["unsubscribe"]["code"] == 2501
    assert client.expired("a") == []
    assert error(do(client, {"id": 4, "sub_refresh": {"channel": "a", "token": "u"}})) == 103
    assert error(do(client, {"id": 5, "sub_refresh": {"channel": "a"}})) == 107


def test_a_token_subscribes_to_channels() -> None:
    """The connect reply says how, and what was missed since the client was there; others hear of it afterwards."""
    client = session()
    subs = {"kept:a": {"recover": True, "epoch": "e", "offset": 3}, "kept:other": {"recover": True}}
    do(client, {"id": 1, "connect": {"token": "t", "subs": subs}})
    options = SubscribeOptions(info={"seat": 7}, data={"hello": 1})

    [connect] = client.authenticated(1, Identity("ann", subs={"kept:a": options}))
    info = b'{"user":"ann","client":"c1","chan_info":{"seat":7}}'
    assert connect == Connect(1, (Listening("kept:a", Position(3, "e"), info),))
    caught = Caught(Position(5, "e"), [b'{"offset":4,"data":4}', b'{"offset":5,"data":5}'], is_all=True)
    reply, _, _, announce = client.connected(1, connect.listenings, {"kept:a": caught})
    assert line(reply)["connect"]["subs"] == {
        "kept:a": {
            "recoverable": True,
            "positioned": True,
            "epoch": "e",
            "offset": 3,
            "publications": [{"offset": 4, "data": 4}, {"offset": 5, "data": 5}],
            "was_recovering": True,
            "recovered": True,
            "data": {"hello": 1},
        }
    }
    assert announce.info == info  # type: ignore[union-attr]
    assert client.interrupted("kept:a") == [Close(protocol.INSUFFICIENT_STATE)]
    assert client.ended() == [Unsubscribe("kept:a", info)]


def test_a_client_that_cannot_be_subscribed_by_its_token_is_refused() -> None:
    """Nothing of it stays."""
    client = session()
    client.authenticated(1, Identity("ann", subs={"kept:a": SubscribeOptions()}))

    left, refused = client.refused(1, protocol.INTERNAL)
    assert left == Unsubscribe("kept:a")
    assert line(refused)["error"]["code"] == 100


def test_the_server_subscribes_and_unsubscribes() -> None:
    """By pushes; what was missed comes after the first one, and twice is told twice."""
    client = connected()
    order = control.Subscribe(user="", channel="kept:a", recover_since=(3, "e"), data=msgspec.Raw(b"1"))

    [effect] = client.told(order)
    assert isinstance(effect, SubscribeAsTold)
    assert effect.is_new
    caught = Caught(Position(4, "e"), [b'{"offset":4,"data":4}'], is_all=True)
    push, missed, _ = client.subscribed_as_told(effect, caught)
    assert line(push)["push"] == {
        "channel": "kept:a",
        "subscribe": {"recoverable": True, "positioned": True, "epoch": "e", "offset": 3, "data": 1},
    }
    assert line(missed)["push"] == {"channel": "kept:a", "pub": {"offset": 4, "data": 4}}
    [again] = client.told(order)
    assert isinstance(again, SubscribeAsTold)
    assert not again.is_new

    gone, push = client.told(control.Unsubscribe(user="", channel="kept:a", code=2000, reason="r"))
    assert isinstance(gone, Unsubscribe)
    assert line(push)["push"]["unsubscribe"] == {"code": 2000, "reason": "r"}
    [push] = client.told(control.Unsubscribe(user="", channel="kept:a", code=2000, reason="r"))
    assert client.told(control.Unsubscribe(user="", channel="", code=2000, reason="r")) == []


def test_the_server_may_subscribe_with_other_options() -> None:
    """For this client alone."""
    client = connected()
    override = Override(join_leave=Switch(False), force_recovery=Switch(False), presence=Switch(False))

    [effect] = client.told(control.Subscribe(user="", channel="kept:a", override=override))
    assert effect == SubscribeAsTold(Listening("kept:a"), None, is_new=True)
    [push] = client.subscribed_as_told(effect, CAUGHT)
    assert line(push)["push"] == {"channel": "kept:a", "subscribe": {}}
    assert error(do(client, {"id": 2, "presence": {"channel": "kept:a"}})) == 108


def test_the_server_refreshes_and_disconnects() -> None:
    """Except those who are spared."""
    client = connected()

    push, lasts = client.told(control.Refresh(user="", is_expired=False, expires_at=NOW + 5))
    assert (line(push)["push"], lasts) == ({"refresh": {"expires": True, "ttl": 5}}, Lasts(NOW + 5))
    assert client.told(control.Refresh(user="", is_expired=True)) == [Close(protocol.EXPIRED)]
    assert client.told(control.Disconnect(user="", code=4000, reason="r", spared=("c1",))) == []
    assert client.told(control.Disconnect(user="", code=4000, reason="r")) == [Close(protocol.Disconnect(4000, "r"))]


def test_the_application_greets() -> None:
    """With data of its own, after the token was found to be good."""

    async def greet(_call: Call) -> None:
        """Never called here."""

    client = session(methods=Methods(connecting=greet))

    assert do(client, {"id": 1, "connect": {"data": [1]}}) == [Greet(1, b"[1]")]
    reply, *_ = client.greeted(1, b'{"a":1}')
    assert line(reply)["connect"]["data"] == {"a": 1}


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
