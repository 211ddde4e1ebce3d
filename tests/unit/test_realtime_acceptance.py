"""The ids of connections."""

import itertools
import os
import uuid

from hookcast_app.realtime.acceptance import client_ids


def test_ids_are_uuids_of_random_bits() -> None:
    """RFC 9562, 5.4: all but six of 128 bits are random, and no two are the same."""
    ids = list(itertools.islice(client_ids(), 2_000))

    assert len(set(ids)) == len(ids)
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant, str(uuid.UUID(each)) == each) for each in ids} == {
        (4, uuid.RFC_4122, True)
    }
    fixed = uuid.UUID(int=0xF << 76 | 3 << 62).int
    either = [0, 0]
    for each in ids:
        either[0] |= uuid.UUID(each).int
        either[1] |= ~uuid.UUID(each).int
    assert (either[0] & either[1] | fixed) & (2**128 - 1) == 2**128 - 1


def test_the_system_is_asked_for_many_at_once() -> None:
    """A question costs more than an id."""
    asked: list[int] = []

    def random(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    ids = client_ids(random)
    for _ in range(1_000):
        next(ids)

    assert len(asked) <= 10
    assert sum(asked) >= 16 * 1_000
