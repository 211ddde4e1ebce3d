"""What the realtime part counts: plain integers that only grow, except those that say how many are there now."""

from collections import Counter
from dataclasses import dataclass, field

TRANSPORTS = ("websocket", "protocol_sse", "http_stream", "plain", "sse", "poll")
"""The client protocol over three, WebSockets of typed messages, plain event streams, and long polls."""


@dataclass(slots=True)
class Stats:
    """Counts since the start of the process."""

    connections: Counter[str] = field(default_factory=Counter)
    """Open now, by transport: see TRANSPORTS."""
    connects: int = 0
    """Clients that were let in, and plain event streams."""
    refused: int = 0
    """Tokens that were not accepted, and foreign origins."""
    refused_connects: int = 0
    """Handshakes beyond an address's connects per second."""
    refused_waiting: int = 0
    """Handshakes of an address with too many connections that have not said who they are."""
    refused_posts: int = 0
    """Commands of streams beyond an address's requests per second."""
    hasty_closes: int = 0
    """Clients closed because they sent more messages per second than they may."""
    publications: int = 0
    """Publications that came from Redis."""
    deliveries: int = 0
    """Publications times their subscribers here."""
    client_publications: int = 0
    """Publications by clients."""
    slow_closes: int = 0
    """Clients closed because too much was queued for them."""
    interruptions: int = 0
    """Channels whose subscribers were told that publications may be missing."""
    recovered: int = 0
    """Subscriptions that were given all that they had missed."""
    not_recovered: int = 0
    """Subscriptions that asked for it, and were told that it is not all there."""
    closes: Counter[int] = field(default_factory=Counter)
    """Connections that the server closed, by code; those that the server API chooses as one, 0."""

    def slow(self, code: int, known: frozenset[int]) -> None:
        """Counts a connection that is closed because its client does not read."""
        self.slow_closes += 1
        self.closed(code, known)

    def came_back(self, *, is_all: bool) -> None:
        """Counts a subscription that asked for what it had missed, and was given all of it or not."""
        if is_all:
            self.recovered += 1
        else:
            self.not_recovered += 1

    def closed(self, code: int, known: frozenset[int]) -> None:
        """Counts a connection that the server closes."""
        self.closes[code if code in known else 0] += 1
