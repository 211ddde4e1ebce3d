"""Who a client is, and what its tokens allow it: values only, as verified tokens give them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from hookcast_core.channels import matches_regex, matches_wildcard


class Permission(StrEnum):
    """What may be done on a channel, as Centrifugo's tokens have it."""

    SUBSCRIBE = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


class Match(StrEnum):
    """How a capability names its channels."""

    EXACT = ""
    WILDCARD = "wildcard"
    REGEX = "regex"


class Capability(msgspec.Struct, frozen=True):
    """What a token allows on some channels, besides what their namespace allows."""

    channels: tuple[str, ...]
    allow: frozenset[Permission]
    match: Match = Match.EXACT

    def names(self, channel: str) -> bool:
        """Whether this is about `channel`."""
        match self.match:
            case Match.WILDCARD:
                return any(matches_wildcard(pattern, channel) for pattern in self.channels)
            case Match.REGEX:
                return any(matches_regex(pattern, channel) for pattern in self.channels)
            case _:
                return channel in self.channels


class Switch(msgspec.Struct, frozen=True):
    """A yes or no that may be left out."""

    value: bool = False


class Override(msgspec.Struct, frozen=True):
    """Options of a channel that a token changes for one subscription; None is as the namespace has it."""

    presence: Switch | None = None
    join_leave: Switch | None = None
    force_recovery: Switch | None = None
    force_positioning: Switch | None = None
    force_push_join_leave: Switch | None = None


class SubscribeOptions(msgspec.Struct, frozen=True):
    """How a client is subscribed by its connection token."""

    info: Any = None
    """What others on the channel see beside the client's `info`: any JSON value."""
    data: Any = None
    """What the client is given with the subscription: any JSON value."""
    override: Override | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is: `user` is empty for an anonymous one; `expires_at` is in epoch seconds, None is never.

    `info` is what the token says of the user for others to see: any JSON value. `subs` are the channels to which the
    client is subscribed by being connected, with their options. `caps` are looked through in their order.
    """

    user: str
    expires_at: float | None = None
    info: Any = None
    subs: Mapping[str, SubscribeOptions] = field(default_factory=dict)
    caps: tuple[Capability, ...] = ()

    def may(self, permission: Permission, channel: str) -> bool:
        """Whether the token itself allows this: the first capability that names the channel decides, and no other."""
        for capability in self.caps:
            if capability.names(channel):
                return permission in capability.allow
        return False


ANONYMOUS = Identity(user="")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a subscription token allows its user on one channel: to subscribe, and what else is in `allow`.

    `expires_at` is when the subscription ends, in epoch seconds; None is never.
    """

    channel: str
    user: str
    expires_at: float | None = None
    info: Any = None
    allow: frozenset[Permission] = frozenset()
