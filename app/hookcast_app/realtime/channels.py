"""Names of channels, and who may do what on one: pure."""

from collections.abc import Mapping

from hookcast_app.auth import Grant, Identity, Permission
from hookcast_app.settings import ChannelOptions

_OURS = ChannelOptions()


def users_of(channel: str) -> frozenset[str] | None:
    """The users that a channel is limited to by its last `#` (`chat#ann,bob`); None if it is for everybody."""
    _, mark, users = channel.rpartition("#")
    return frozenset(filter(None, users.split(","))) if mark else None


class ChannelRules:
    """The options of every channel, by namespace.

    `""` holds the defaults for all of them; a namespace inherits what it does not set itself. A namespace is the part
    of a name before the first `:`; one that is not configured has the defaults.

    Raises ValueError, naming the setting, for options that need a history where there is none.
    """

    def __init__(self, namespaces: Mapping[str, ChannelOptions]) -> None:
        self._defaults = namespaces.get("", ChannelOptions())
        self._namespaces = {
            name: self._defaults.model_copy(
                update={field: getattr(options, field) for field in options.model_fields_set}
            )
            for name, options in namespaces.items()
            if name
        }
        for name, options in {"": self._defaults, **self._namespaces}.items():
            for option in ("recover", "cache_last"):
                if getattr(options, option) and not options.history_size:
                    raise ValueError(f"HOOKCAST_CHANNEL_NAMESPACES: {name!r} has {option}, which needs history_size")

    def options(self, channel: str) -> ChannelOptions:
        """What applies to one channel; nothing to what clients cannot name, which carries messages of ours."""
        if " " in channel:
            return _OURS
        namespace, mark, _ = channel.partition(":")
        return self._namespaces.get(namespace, self._defaults) if mark else self._defaults

    def may_subscribe(self, identity: Identity, channel: str, grant: Grant | None = None) -> bool:
        """Whether `identity` may listen on `channel`; `grant` is from its subscription token, if it sent one.

        What a token allows comes on top of what the namespace does, but opens no channel that is for other users.
        """
        if not _is_admitted(identity, channel):
            return False
        if _is_granted(grant, identity, channel) or identity.may(Permission.SUBSCRIBE, channel):
            return True
        match self.options(channel).subscribe:
            case "anyone":
                return True
            case "authenticated":
                return bool(identity.user)
            case _:
                return False

    def may_publish(self, identity: Identity, channel: str, *, subscribed: bool, grant: Grant | None = None) -> bool:
        """Whether a client may publish on `channel`; `subscribed`: it listens there itself, with `grant`."""
        if not _is_admitted(identity, channel):
            return False
        if _allows(Permission.PUBLISH, identity, channel, grant):
            return True
        match self.options(channel).publish:
            case "subscribers":
                return subscribed
            case "authenticated":
                return bool(identity.user)
            case _:
                return False

    def may_read_presence(
        self, identity: Identity, channel: str, *, subscribed: bool, grant: Grant | None = None
    ) -> bool:
        """Whether a client may ask who is on `channel`: whoever listens there, or has a token that allows it.

        Whether the channel has presence at all is another question.
        """
        allowed = subscribed or _allows(Permission.PRESENCE, identity, channel, grant)
        return allowed and _is_admitted(identity, channel)

    def may_read_history(
        self, identity: Identity, channel: str, *, subscribed: bool, grant: Grant | None = None
    ) -> bool:
        """Whether a client may ask what was published on `channel`; as for presence."""
        allowed = subscribed or _allows(Permission.HISTORY, identity, channel, grant)
        return allowed and _is_admitted(identity, channel)


def _is_admitted(identity: Identity, channel: str) -> bool:
    users = users_of(channel)
    return users is None or identity.user in users


def _is_granted(grant: Grant | None, identity: Identity, channel: str) -> bool:
    return grant is not None and grant.channel == channel and grant.user == identity.user


def _allows(permission: Permission, identity: Identity, channel: str, grant: Grant | None) -> bool:
    if grant is not None and _is_granted(grant, identity, channel) and permission in grant.allow:
        return True
    return identity.may(permission, channel)
