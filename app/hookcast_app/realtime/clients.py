"""Whoever is connected to this process, by user."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from hookcast_app.realtime.control import Emulated, Order
from hookcast_app.realtime.hub import Connection
from hookcast_app.realtime.stats import Stats


class Client(Protocol):
    """A connection that an order can be about."""

    @property
    def user(self) -> str:
        """Empty for an anonymous one."""
        ...

    @property
    def client(self) -> str:
        """The id of the connection."""
        ...

    @property
    def session(self) -> str:
        """The id that an emulated connection has for its way up; else it is empty."""
        ...

    def carry_out(self, order: Order) -> None:
        """Does what was ordered, after what the client asked for before."""
        ...


class Clients:
    """Lives as long as the server. All connections, and those of each user once it is known who they are."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self.all: set[Connection] = set()
        self.sessions: dict[str, Callable[[str], None]] = {}
        """What takes the commands of an emulated connection, by its session."""
        self._users: dict[str, dict[Client, None]] = {}

    @property
    def users(self) -> int:
        """How many different users are connected here."""
        return len(self._users)

    @property
    def known(self) -> int:
        """How many connections are here of which it is known whose they are."""
        return sum(map(len, self._users.values()))

    @contextmanager
    def staying(self, connection: Connection, transport: str) -> Iterator[None]:
        """Knows a connection as one of `all`, and counts it, for as long as this lasts."""
        self.all.add(connection)
        self._stats.connections[transport] += 1
        try:
            yield
        finally:
            self.all.discard(connection)
            self._stats.connections[transport] -= 1

    def enter(self, client: Client) -> None:
        """It is known now who this is."""
        self._users.setdefault(client.user, {})[client] = None

    def leave(self, client: Client) -> None:
        """It is gone; it may never have entered."""
        theirs = self._users.get(client.user, {})
        theirs.pop(client, None)
        if not theirs:
            self._users.pop(client.user, None)

    def chosen(self, user: str, client: str = "", session: str = "") -> Iterator[Client]:
        """Those of a user, or of them the one with that client id or session where these are given."""
        for each in list(self._users.get(user, {})):
            if client in {"", each.client} and session in {"", each.session}:
                yield each

    def carry_out(self, order: Order) -> None:
        """Has whoever is chosen here do what was ordered."""
        for each in self.chosen(order.user, order.client, order.session):
            each.carry_out(order)

    def pass_on(self, message: Emulated) -> None:
        """Gives commands to the connection they are for, if it is still here."""
        if (take := self.sessions.get(message.session)) is not None:
            take(message.data)
