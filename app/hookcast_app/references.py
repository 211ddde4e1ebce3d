"""How lanes refer to events. Pure.

A ref stands for an event. A reference is the ref and, if the event has an ordering key, a space and what stands for
that key, so that whoever reads a lane knows which deliveries must wait for which.
"""

from hashlib import blake2b


def reference(ref: str, ordering_key: str | None) -> str:
    """How lanes refer to an event. Two ordering keys that are taken for the same wait for each other, no worse."""
    if ordering_key is None:
        return ref
    return f"{ref} {blake2b(ordering_key.encode(), digest_size=8).hexdigest()}"


def ref_of(reference: str) -> str:
    """The event's ref in a lane's reference to it."""
    return reference.partition(" ")[0]


def order_of(reference: str) -> str:
    """What stands for the ordering key in a lane's reference; empty without one."""
    return reference.partition(" ")[2]
