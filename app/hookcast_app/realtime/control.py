"""What the processes over one Redis tell one another about clients. Pure: messages, and how they are written.

A process that does not know a kind of message ignores it, and a field as well: versions differ during an upgrade.
"""

from typing import Any

import msgspec

from hookcast_app.auth import Override


class Emulated(msgspec.Struct, frozen=True, tag="emulated"):
    """Commands of a client whose stream is elsewhere, one on each line."""

    session: str
    data: str


class _Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of a user: all of them, or the one that has that client id and that session where they are named.

    An empty `user` stands for anonymous ones, so that `client` or `session` should say which.
    """

    user: str
    client: str = ""
    session: str = ""


class Subscribe(_Chosen, frozen=True, kw_only=True, tag="subscribe"):
    """Subscribe them to a channel.

    `info` is what others there see of them besides their own, `data` what they are given: any JSON value, or nothing.
    `expires_at` (epoch seconds) ends the subscription; None is never.
    """

    channel: str
    info: Any = None
    data: Any = None
    expires_at: float | None = None
    override: Override | None = None
    """Options of the channel that this changes, for them alone."""
    recover_since: tuple[int, str] | None = None
    """The offset and epoch that their client knows already."""


class Unsubscribe(_Chosen, frozen=True, kw_only=True, tag="unsubscribe"):
    """End their subscription, and say why; an empty channel stands for all that they have."""

    channel: str
    code: int
    reason: str


class Disconnect(_Chosen, frozen=True, kw_only=True, tag="disconnect"):
    """End the connections, except those whose client id is in `spared`."""

    code: int
    reason: str
    spared: tuple[str, ...] = ()


class Refresh(_Chosen, frozen=True, kw_only=True, tag="refresh"):
    """Let the connections last until `expires_at` (epoch seconds; None: for good), or end now as expired ones."""

    is_expired: bool
    expires_at: float | None = None


class Question(msgspec.Struct, frozen=True, tag="question"):
    """Asks every process something, which `about` names; `asker` gets an Answer of each."""

    number: str
    asker: str
    about: str
    detail: str = ""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """A process's answer to a question: any JSON value."""

    number: str
    value: Any


Order = Subscribe | Unsubscribe | Disconnect | Refresh
"""What is to be done with connections, wherever they are."""
Message = Emulated | Subscribe | Unsubscribe | Disconnect | Refresh | Question | Answer

_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
encode = msgspec.json.Encoder().encode
"""A message as bytes."""


def decode(data: bytes) -> Message | None:
    """A message, or None for what this version does not know."""
    try:
        return _messages.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
