"""What the realtime part counts: plain integers that only grow, except those that say how many are there now."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts since the start of the process."""

    websocket_connections: int = 0
    """Clients of the protocol, open now; those of `emulated_connections` are among them."""
    emulated_connections: Counter[str] = field(default_factory=Counter)
    """Clients of the protocol over HTTP, open now: `protocol_sse` and `http_stream`."""
    sse_connections: int = 0
    """Plain event streams, open now."""
    plain_connections: int = 0
    """WebSockets of typed messages, open now."""
    poll_connections: int = 0
    """Long polls that are not answered yet."""
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

    def closed(self, code: int, known: frozenset[int]) -> None:
        """Counts a connection that the server closes."""
        self.closes[code if code in known else 0] += 1
