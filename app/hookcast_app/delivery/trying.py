"""Test sends: one request to a subscription's endpoint as a delivery makes it, at once, and what came of it."""

from collections.abc import Callable
from importlib.metadata import version

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.models import Record
from hookcast_app.delivery.store import Loaded
from hookcast_app.delivery.targets import Targets
from hookcast_app.events import Event, stored, structured
from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason, Unavailable

AT_ONCE = 16
"""Test sends under way in one process; an endpoint may take a minute to answer."""


class Trials:
    """Lives as long as the app. What is sent is stored nowhere, and is no attempt of a delivery."""

    def __init__(
        self,
        configuration: CurrentConfiguration,
        policy: EgressPolicy,
        clock: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._client = HttpClient(policy, connections_per_endpoint=AT_ONCE)
        self._targets = Targets(configuration, version("hookcast"), clock, 0)
        self._attempts = Attempts(self._client, clock, random)
        self._clock = clock
        self._under_way = 0

    async def send(self, uid: str, event: Event, correlation_id: str) -> Attempted:
        """Sends an event to a subscription, whether or not it would match, is suspended or disabled.

        Raises InvalidInput (NotFound, NoSigningKey), Unavailable if too many are under way.
        """
        now = self._clock()
        target = self._targets.target(uid, now)
        if target is None:
            self._configuration.entry(uid)
            raise InvalidInput(Reason.NO_SIGNING_KEY, "spec.signing.keys", "all keys have expired; add another")
        if self._under_way >= AT_ONCE:
            raise Unavailable("too many test sends are under way; try again")
        body, data_at = structured(event)
        loaded = Loaded(b"", event.ref, stored(event, data_at, now, correlation_id), body, Record())
        self._under_way += 1
        try:
            return await self._attempts.make(target, loaded, now)
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        """Closes the connections to endpoints."""
        await self._client.close()
