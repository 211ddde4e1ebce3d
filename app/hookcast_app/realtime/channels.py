"""Names of channels, and who may do what on one: pure."""

import re
from collections.abc import Mapping

from hookcast_app.auth import Identity
from hookcast_app.settings import ChannelOptions

MAX_NAME = 255
"""Characters, all of them ASCII."""
_NAME = re.compile(r"[A-Za-z0-9_\-.:@]*(?:#[A-Za-z0-9_\-.:@#,]*)?")


def is_channel_name(name: str) -> bool:
    """Whether `name` can be a channel: 1 to 255 of letters, digits and `_-.:@#`, and `,` after a `#`."""
    return 0 < len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def users_of(channel: str) -> frozenset[str] | None:
    """The users that a channel is limited to by its last `#` (`chat#ann,bob`); None if it is for everybody."""
    _, mark, users = channel.rpartition("#")
    return frozenset(filter(None, users.split(","))) if mark else None


class ChannelRules:
    """The options of every channel, by namespace.

    `""` holds the defaults for all of them; a namespace inherits what it does not set itself. A namespace is the part
    of a name before the first `:`; one that is not configured has the defaults.
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

    def options(self, channel: str) -> ChannelOptions:
        """What applies to one channel."""
        namespace, mark, _ = channel.partition(":")
        return self._namespaces.get(namespace, self._defaults) if mark else self._defaults

    def may_subscribe(self, identity: Identity, channel: str) -> bool:
        """Whether `identity` may listen on `channel`."""
        if not _is_admitted(identity, channel):
            return False
        return bool(identity.user) or self.options(channel).subscribe == "anyone"

    def may_publish(self, identity: Identity, channel: str, *, subscribed: bool) -> bool:
        """Whether a client may publish on `channel`; `subscribed`: it listens there itself."""
        match self.options(channel).publish:
            case "subscribers":
                return subscribed and _is_admitted(identity, channel)
            case "authenticated":
                return bool(identity.user) and _is_admitted(identity, channel)
            case _:
                return False


def _is_admitted(identity: Identity, channel: str) -> bool:
    users = users_of(channel)
    return users is None or identity.user in users
