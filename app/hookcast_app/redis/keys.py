"""The names of everything in Redis, in one place.

`hookcast:{<tag>}:` begins every key of a partition, so that one script can reach all of them on a Redis Cluster.

    event:<ref>             hash: m record, b body, s subscriptions matched, n deliveries open, h digest,
                            x has dead letters, d:<uid> delivery once attempted
    dedup:<ref>             digest and number of matches of an event whose publisher chose its id
    events                  stream: refs of accepted events in order
    ring                    sorted set: lanes by the time (epoch ms) at which they want attention
    hungry                  set: lanes read to their end; the next publish to one wakes a dispatcher
    disabled                hash: lanes that an endpoint's answer disabled
    mark                    there while all of this is moved to another Redis, and afterwards: see moving.py
    lane:<uid>:lease        token of the dispatcher that works this lane
    lane:<uid>:waiting      stream: refs in order; those in flight stay until they are settled
    lane:<uid>:later        sorted set: refs by the time of their next attempt
    lane:<uid>:delivered, …:dead, …:discarded     streams: refs in the order in which they got there
"""

PREFIX = "hookcast:"
PLACES = ("waiting", "later", "delivered", "dead", "discarded")


class Keys:
    """The keys of one partition; `tag` is the integer whose slot puts it on its node."""

    def __init__(self, tag: int = 0) -> None:
        self.prefix = f"{PREFIX}{{{tag}}}:"
        self.ring = f"{self.prefix}ring"
        self.hungry = f"{self.prefix}hungry"
        self.events = f"{self.prefix}events"
        self.disabled = f"{self.prefix}disabled"
        self.wake = f"{self.prefix}wake"
        self.mark = f"{self.prefix}mark"

    def event(self, ref: str) -> str:
        """An event's hash."""
        return f"{self.prefix}event:{ref}"

    def dedup(self, ref: str) -> str:
        """What is remembered of an id that a publisher chose."""
        return f"{self.prefix}dedup:{ref}"

    def lane(self, uid: str, part: str) -> str:
        """A lane's lease, or one of the places of its deliveries."""
        return f"{self.prefix}lane:{uid}:{part}"


def channel(name: str) -> str:
    """The Redis channel that carries a realtime channel's publications."""
    return f"{PREFIX}channel:{name}"
