"""Python's collector of cycles, kept from stopping the process: what lives long need not be looked at again and again.

With 10,000 subscriptions in memory one look at everything takes a third of a second, in which nothing else runs.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = 20_000
"""Allocations between two looks for cycles: requests make few of them, and the default of 700 costs 5 to 10 %."""


def settle() -> None:
    """Takes everything that lives now as living as long as the process, after a start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)


@contextmanager
def much_that_stays() -> Iterator[None]:
    """While much is made that will live long: no looks meanwhile, and none at it later.

    A cycle that is garbage at the end is never freed, so it is for rare occasions.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
