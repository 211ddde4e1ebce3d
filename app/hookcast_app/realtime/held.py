"""A channel that a client is subscribed to: what it may there, how long, and how it is told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hookcast_app.auth import Grant, Override
from hookcast_app.realtime.positions import Caught, Position
from hookcast_app.settings import ChannelOptions


@dataclass(slots=True)
class Held:
    """Lives from the decision to subscribe until the client has left the channel."""

    options: ChannelOptions
    by_server: bool = False
    """Whether the client did not ask for it itself."""
    grant: Grant | None = None
    """Of its subscription token."""
    info: Any = None
    """What others on the channel see beside the client's own info."""
    expires_at: float | None = None
    is_answered: bool = False
    """Whether the client knows that it is subscribed."""

    @property
    def is_recoverable(self) -> bool:
        """Whether its client is to come back with its position."""
        return self.options.recover or self.options.cache_last


def overridden(options: ChannelOptions, override: Override | None) -> ChannelOptions:
    """A channel's options as a token, or the server API, changes them for one subscription."""
    if override is None:
        return options
    switches = {
        "presence": override.presence,
        "join_leave": override.join_leave,
        "recover": override.force_recovery if options.history_size else None,
    }
    return options.model_copy(update={name: each.value for name, each in switches.items() if each is not None})


def result_of(held: Held, caught: Caught, since: Position | None, *, was_recovering: bool = False) -> dict[str, Any]:
    """The protocol's `SubscribeResult`, as Centrifugo gives it: what says nothing is left out.

    `offset` is where the client stands before the publications that are given.
    """
    result: dict[str, Any] = {}
    if held.is_recoverable:
        offset = since.offset if since is not None and caught.is_all else caught.position.offset
        result = {"recoverable": True, "epoch": caught.position.epoch, "positioned": True}
        if offset:
            result["offset"] = offset
    if caught.missed:
        result["publications"] = [msgspec.Raw(publication) for publication in caught.missed]
    if was_recovering:
        result["was_recovering"] = True
        if caught.is_all:
            result["recovered"] = True
    return result


def lasting(expires_at: float | None, now: float) -> Mapping[str, Any]:
    """The protocol's `expires` and `ttl`, in seconds; nothing for what never ends."""
    return {} if expires_at is None else {"expires": True, "ttl": max(1, int(expires_at - now))}
