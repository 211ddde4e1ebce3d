"""Typed JSON messages, for WebSocket clients without any library: paths, messages, and why connections end. Pure.

A publication of binary content is one whose data is `{"binary": "<base64>"}` and whose tags say so; who reads it
otherwise than by these messages sees that.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from hookcast_app.realtime.protocol import TOO_BIG, Disconnect
from hookcast_core.channels import is_channel_name
from hookcast_core.errors import InvalidInput, Reason

SUBPROTOCOL = "hookcast-json"
EVERYBODY = "ws:all"
"""The channel of everybody who comes by a client id."""
MAX_MEMBERS = 1_000
"""That a welcome names: it is to stay a short message."""
_PREFIX = "/ws/"
_CHAT = "chat"
_DIRECT = "direct "
_CLIENT = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")
_MAX_USER = 255
_BINARY_TAGS = {"content": "binary"}

UNSUPPORTED = Disconnect(1003, "binary messages are not taken here")
NO_TOKEN = Disconnect(1008, "send a token first")
INVALID_TOKEN = Disconnect(1008, "invalid token")
EXPIRED = Disconnect(1008, "token expired")
WRONG_USER = Disconnect(1008, "the token is another user's")
TAKEN = Disconnect(1008, "the client id is somebody else's")
FORBIDDEN = Disconnect(1008, "you may not listen here")
FULL = Disconnect(1008, "the channel is full")
TOO_FAST = Disconnect(1008, "too many messages")
SLOW = Disconnect(1008, "slow")
NO_PONG = Disconnect(1008, "no pong")
UNSUBSCRIBED = Disconnect(1008, "unsubscribed")
FAULT = Disconnect(1011, "internal error")
UNAVAILABLE = Disconnect(1011, "unavailable, come back later")
SHUTDOWN = Disconnect(1012, "shutdown")
OWN_CODES = frozenset({UNSUPPORTED.code, FORBIDDEN.code, TOO_BIG.code, FAULT.code, SHUTDOWN.code})
"""Close codes that the server chooses itself."""
PONG = b'{"type":"pong"}'


@dataclass(frozen=True, slots=True)
class Place:
    """What a path stands for: a channel, and there a client id, or a user."""

    route: str
    channel: str
    client: str = ""
    user: str = ""


def place_of(path: str) -> Place | None:
    """What a path, percent-encoded, stands for; None for one that is not offered."""
    match path.removeprefix(_PREFIX).split("/") if path.startswith(_PREFIX) else []:
        case [client] if _CLIENT.fullmatch(client := unquote(client)):
            return Place("/ws/{client_id}", EVERYBODY, client=client)
        case ["chat", room, user]:
            channel, user = f"{_CHAT}:{unquote(room)}", unquote(user)
            if room and is_channel_name(channel) and 0 < len(user) <= _MAX_USER:
                return Place("/ws/chat/{room}/{user}", channel, user=user)
    return None


def direct_channel(client: str) -> str:
    """What carries the messages for one client id. No client can name it: names of channels have no blanks."""
    return _DIRECT + client


def is_client_id(text: str) -> bool:
    """Whether this can be a client id."""
    return _CLIENT.fullmatch(text) is not None


# What clients say


class Said(msgspec.Struct, frozen=True):
    """A message of a client: what it is about, and whichever of these belong to that."""

    type: str
    data: msgspec.Raw = msgspec.Raw(b"")
    to: str = ""
    token: str = ""


_said = msgspec.json.Decoder(Said)


def parse(text: str) -> Said:
    """One message. Raises InvalidInput."""
    try:
        return _said.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        detail = 'send an object with a type, such as {"type": "message", "data": "hello"}'
        raise InvalidInput(Reason.INVALID_REQUEST, None, detail) from error


def binary_publication(content: bytes, info: bytes) -> bytes:
    """An encoded publication of what a client sent in a binary frame; `info` is its encoded `ClientInfo`."""
    tags = msgspec.json.encode(_BINARY_TAGS)
    return b'{"data":{"binary":"%b"},"info":%b,"tags":%b}' % (b64encode(content), info, tags)


# What clients are told


class _Info(msgspec.Struct):
    user: str = ""
    client: str = ""
    conn_info: Any = None


class _Publication(msgspec.Struct):
    data: msgspec.Raw
    offset: int = 0
    info: _Info | None = None
    tags: dict[str, str] | None = None


class _Binary(msgspec.Struct):
    binary: str


class _Comer(msgspec.Struct):
    info: _Info


class _Coming(msgspec.Struct):
    channel: str = ""
    join: _Comer | None = None
    leave: _Comer | None = None


class _Push(msgspec.Struct):
    push: _Coming


_publications = msgspec.json.Decoder(_Publication)
_binaries = msgspec.json.Decoder(_Binary)
_pushes = msgspec.json.Decoder(_Push)
_infos = msgspec.json.Decoder(_Info)


def client_info(user: str, client: str, conn_info: Any) -> bytes:
    """Who a client is (`ClientInfo` of the protocol)."""
    known = {"user": user, "client": client}
    return msgspec.json.encode(known if conn_info is None else {**known, "conn_info": conn_info})


def unproven(name: str) -> dict[str, str]:
    """What is shown of an anonymous client that calls itself so."""
    return {"name": name}


def message(channel: str, publication: bytes) -> str | bytes:
    """What subscribers are sent of an encoded publication: text, or binary content.

    Raises msgspec.MsgspecError for what is none.
    """
    found = _publications.decode(publication)
    if found.tags == _BINARY_TAGS and (content := _binary(found.data)) is not None:
        return content
    kind = "direct" if channel.startswith(_DIRECT) else "message"
    told = {"type": kind, **_sender(channel, found.info), "data": found.data}
    return _text({**told, "offset": found.offset} if found.offset else told)


def _binary(data: msgspec.Raw) -> bytes | None:
    try:
        return b64decode(_binaries.decode(data).binary, validate=True)
    except (msgspec.MsgspecError, Base64Error, ValueError):
        return None


def coming(push: bytes) -> bytes:
    """What subscribers are sent of a push of the protocol that tells who came or went; empty for any other."""
    try:
        found = _pushes.decode(push).push
    except (msgspec.MsgspecError, RecursionError):
        return b""
    if found.join is not None:
        return msgspec.json.encode({"type": "join", **_comer(found.channel, found.join.info)})
    if found.leave is not None:
        return msgspec.json.encode({"type": "leave", **_comer(found.channel, found.leave.info)})
    return b""


def welcome(place: Place, client: str, user: str, **more: Any) -> bytes:
    """The first that a client is told."""
    return msgspec.json.encode({"type": "welcome", "client": client, "user": user, "channel": place.channel, **more})


def members(channel: str, infos: Iterable[bytes]) -> list[str]:
    """Who is there, as messages of theirs name them; at most MAX_MEMBERS."""
    return sorted({_name(channel, _infos.decode(info)) for info in infos})[:MAX_MEMBERS]


def error(reason: Reason, detail: str) -> bytes:
    """Why a message came to nothing."""
    return msgspec.json.encode({"type": "error", "code": reason, "detail": detail})


def reset(channel: str) -> bytes:
    """Messages of a channel, or those for this client, may be missing."""
    told = {} if channel.startswith(_DIRECT) else {"channel": channel}
    return msgspec.json.encode({"type": "reset", **told})


def _goes_by_client(channel: str) -> bool:
    return channel == EVERYBODY or channel.startswith(_DIRECT)


def _name(channel: str, info: _Info) -> str:
    if _goes_by_client(channel):
        return info.client
    name = info.conn_info.get("name") if not info.user and isinstance(info.conn_info, dict) else None
    return name if isinstance(name, str) else info.user


def _proof(channel: str, info: _Info) -> dict[str, Any]:
    if info.user:
        return {"user": info.user} if _goes_by_client(channel) else {}
    return {"anonymous": True}


def _sender(channel: str, info: _Info | None) -> dict[str, Any]:
    return {} if info is None else {"from": _name(channel, info), **_proof(channel, info)}


def _comer(channel: str, info: _Info) -> dict[str, Any]:
    return {"client" if _goes_by_client(channel) else "user": _name(channel, info), **_proof(channel, info)}


def _text(told: dict[str, Any]) -> str:
    return msgspec.json.encode(told).decode()
