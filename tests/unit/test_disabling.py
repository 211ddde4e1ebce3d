"""Until when a disabled subscription stays so."""

from typing import Any, cast

import pytest

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.disabling import Disabling
from hookcast_core.configuration import Configuration, Entry
from hookcast_core.errors import Reason
from hookcast_core.subscription import parse_subscription
from tests.support.dispatching import unreported


class Store:
    """Remembers what is disabled."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}

    async def disable(self, uid: str, state: bytes) -> None:
        self.states[uid] = state

    async def enable(self, uid: str) -> None:
        del self.states[uid]


def entry(url: str = "https://gone.example/", generation: int = 5, enabled_at: int | None = None) -> Entry:
    spec = parse_subscription({"endpoint": {"url": url}, "events": {"types": ["*"]}})
    return Entry(
        uid="u",
        generation=generation,
        namespace="shop",
        name="orders",
        source="kubernetes",
        spec=spec,
        url=url,
        enabled_at=enabled_at,
    )


@pytest.mark.parametrize(
    ("disabled", "now", "stays"),
    [
        (entry(), entry(), True),
        (entry(), entry(generation=6), True),
        (entry(), entry("https://new.example/", generation=6), False),
        (entry(), entry("https://older.example/", generation=4), True),
        (entry(), entry(enabled_at=7), False),
        (entry(enabled_at=7), entry(enabled_at=7), True),
        (entry(enabled_at=7), entry(), True),
        (entry(enabled_at=7), entry(enabled_at=8), False),
    ],
)
async def test_only_its_user_ends_it(disabled: Entry, now: Entry, *, stays: bool) -> None:
    """By another specification or a later wish; not a pod that is behind, nor who prunes the wish away."""
    store, current = Store(), CurrentConfiguration()
    disabling = Disabling(cast("Any", store), current, lambda: 1, unreported, after_seconds=0)
    await disabling.disable(disabled, Reason.GONE)
    current.swap(Configuration(sequence=1, entries=(now,)))

    assert await disabling.stays("u", store.states["u"]) is stays
    assert ("u" in store.states) is stays
