"""Subscriptions that their endpoints' answers disable, until their specification changes or their user enables them."""

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.models import Disabled
from hookcast_app.delivery.store import DisabledStore
from hookcast_app.delivery.targets import fingerprint
from hookcast_core.configuration import Entry
from hookcast_core.errors import Reason

_log = structlog.get_logger("hookcast.delivery")

DISABLED_EVENT = "hookcast.subscription.disabled"
Report = Callable[[str, dict[str, object]], Awaitable[None]]
"""Publishes an event of ours: its type and its data. Raises Unavailable where Redis is."""


class Disabling:
    """Lives as long as the dispatcher. Raises Unavailable where Redis is."""

    def __init__(
        self,
        store: DisabledStore,
        configuration: CurrentConfiguration,
        clock: Callable[[], int],
        report: Report,
        *,
        after_seconds: int,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._clock = clock
        self._report = report
        self._after_ms = after_seconds * 1000

    async def stays(self, uid: str, state: bytes) -> bool:
        """Whether a disabled subscription stays so: until its user changes its specification, or enables it.

        A process whose configuration is older than that of the one that disabled it knows of neither.
        """
        disabled = msgspec.json.decode(state, type=Disabled)
        entry = self._configuration.entries.get(uid)
        if entry is None or entry.generation < disabled.generation:
            return True
        is_enabled = (entry.enabled_at or 0) > disabled.enabled_at
        if not is_enabled and disabled.fingerprint == fingerprint(entry):
            return True
        await self._store.enable(uid)
        why = "its user enabled it" if is_enabled else "its specification changed"
        _log.info("subscription.enabled", subscription=uid, why=why)
        return False

    def is_due(self, failing_since: int | None) -> bool:
        """Whether an endpoint that fails since then (epoch ms) has done so for too long."""
        return failing_since is not None and 0 < self._after_ms <= self._clock() - failing_since

    def concerns(self, attempted: Entry) -> bool:
        """Whether the answer to a request is one to the subscription as it is now."""
        entry = self._configuration.entries.get(attempted.uid)
        return (
            entry is not None
            and entry.enabled_at == attempted.enabled_at
            and fingerprint(entry) == fingerprint(attempted)
        )

    async def disable(self, attempted: Entry, reason: Reason) -> None:
        """Disables a subscription as it was when a request was sent, and reports it: rather twice than not at all."""
        _log.warning("subscription.disabled", subscription=attempted.uid, name=attempted.name, reason=reason)
        subscription = {"uid": attempted.uid, "namespace": attempted.namespace, "name": attempted.name}
        await self._report(DISABLED_EVENT, {"subscription": subscription, "reason": reason})
        disabled = Disabled(
            reason, fingerprint(attempted), self._clock(), attempted.generation, attempted.enabled_at or 0
        )
        await self._store.disable(attempted.uid, msgspec.json.encode(disabled))
