"""What users do to deliveries over REST: retry, cancel, replay, purge. Needs the scope `subscriptions:write`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from hookcast_app.auth import ApiKeys
from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.history import Found, History, shown_attempt, shown_delivery
from hookcast_app.delivery.models import ENDED, Place
from hookcast_app.delivery.moves import Moves, again
from hookcast_app.delivery.outcome import Delivered
from hookcast_app.delivery.replay import Progress, Replays, Wanted
from hookcast_app.delivery.trying import Trials
from hookcast_app.events import Event, timestamp, uuid7
from hookcast_app.observability import current_correlation_id
from hookcast_core.errors import InvalidInput, Reason, Unavailable
from hookcast_core.subscription import Pattern, epoch_ms

TRIES = 5
"""A delivery may be attempted just while it is moved; then it is looked at again."""
Ended = Literal["delivered", "dead", "discarded"]


class Selection(BaseModel):
    """Which deliveries: of events of these types, that ended within this time."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(default=None, description="Ended then or later (RFC 3339).")
    until: AwareDatetime | None = Field(default=None, description="Ended then or before; by default now.")
    types: Annotated[tuple[Pattern, ...], Field(max_length=64)] = Field(
        default=(), description='Event types ("user.created", "order.*"); all if there are none.'
    )


class DeadLetterSelection(Selection):
    """Which dead letters."""

    subscription: str | None = Field(default=None, max_length=128, description="A subscription's UID; by default all.")


class SubscriptionSelection(Selection):
    """Which of a subscription's deliveries."""

    status: Annotated[tuple[Ended, ...], Field(min_length=1, max_length=3)] = Field(
        default=("dead",), description="How they ended; by default those that are dead."
    )


class Sample(BaseModel):
    """A test event."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")] = Field(
        default="hookcast.test", description="Its type."
    )
    subject: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[ -~]*$")] | None = Field(
        default=None, description="Its subject."
    )
    data: JsonValue = Field(default="This is a test.", description="Its data.")


class Actions:
    """The handlers; lives as long as the app."""

    def __init__(
        self,
        history: History,
        moves: Moves,
        replays: Replays,
        enable: Callable[[str], Awaitable[None]],
        configuration: CurrentConfiguration,
        keys: ApiKeys,
        clock: Callable[[], int],
        trials: Trials,
    ) -> None:
        self._trials = trials
        self._history = history
        self._moves = moves
        self._replays = replays
        self._enable = enable
        self._configuration = configuration
        self._keys = keys
        self._clock = clock

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(prefix="/api/v1", dependencies=[Depends(self._may_write)])

        def post(path: str, handler: Callable[..., object], tag: str, summary: str) -> None:
            router.add_api_route(path, handler, methods=["POST"], tags=[tag], summary=summary, status_code=202)

        post("/deliveries/{delivery_id}/retry", self.retry, "deliveries", "Attempt a delivery anew")
        post("/deliveries/{delivery_id}/cancel", self.cancel, "deliveries", "Cancel a delivery that has not ended")
        post("/dead-letters/replay", self.replay_dead_letters, "dead letters", "Attempt many dead letters again")
        post("/webhook-subscriptions/{uid}/replay", self.replay, "subscriptions", "Attempt many deliveries again")
        post("/webhook-subscriptions/{uid}/enable", self.enable, "subscriptions", "Enable a disabled subscription")
        router.add_api_route(
            "/webhook-subscriptions/{uid}/test",
            self.test,
            methods=["POST"],
            tags=["subscriptions"],
            summary="Send a test event now",
        )
        router.add_api_route(
            "/dead-letters",
            self.purge,
            methods=["DELETE"],
            tags=["dead letters"],
            summary="Purge dead letters",
            status_code=202,
        )
        return router

    async def _may_write(self, request: Request) -> None:
        self._keys.authorize(request.scope["headers"], "subscriptions:write")

    async def retry(self, delivery_id: str) -> Response:
        """Attempts one delivery anew, at the end of its lane: one that has ended, or waits for its next attempt."""
        for _ in range(TRIES):
            found = await self._found(delivery_id)
            state = found.state
            if not state.cancelled and (not state.value or state.record.place is Place.WAITING):
                raise InvalidInput(Reason.CONFLICT, "status", "this delivery waits for its attempt already")
            if await self._moves.move(found.partition, [again(found)]):
                return await self._shown(found)
        raise Unavailable("this delivery is being attempted; try again")

    async def cancel(self, delivery_id: str) -> Response:
        """Cancels one delivery; a request that is under way is not taken back."""
        for _ in range(TRIES):
            found = await self._found(delivery_id)
            if found.state.record.place in ENDED:
                place = found.state.record.place.value
                raise InvalidInput(Reason.CONFLICT, "status", f"this delivery has ended already: it is {place}")
            if await self._moves.cancel(found):
                return await self._shown(found)
        raise Unavailable("this delivery is being attempted; try again")

    async def replay(self, uid: str, selection: Annotated[SubscriptionSelection | None, Body()] = None) -> Response:
        """Has one subscription's deliveries attempted again in the background; the answer says how to follow it."""
        self._configuration.entry(uid)
        wanted = selection or SubscriptionSelection()
        return await self._asked("again", (uid,), tuple(map(Place, wanted.status)), wanted)

    async def replay_dead_letters(self, selection: Annotated[DeadLetterSelection | None, Body()] = None) -> Response:
        """Has dead letters attempted again in the background; those whose subscription is gone stay."""
        wanted = selection or DeadLetterSelection()
        if wanted.subscription is not None:
            self._configuration.entry(wanted.subscription)
        lanes = [uid for uid in await self._lanes(wanted.subscription) if uid in self._configuration.entries]
        return await self._asked("again", tuple(lanes), (Place.DEAD,), wanted)

    async def purge(
        self,
        subscription: Annotated[str | None, Query(max_length=128, description="A subscription's UID.")] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
    ) -> Response:
        """Has dead letters discarded in the background: they expire as what was delivered does."""
        wanted = Selection(since=since, until=until)
        return await self._asked("purge", tuple(await self._lanes(subscription)), (Place.DEAD,), wanted)

    async def enable(self, uid: str) -> Response:
        """Ends what an endpoint's answers did to a subscription: its deliveries go on."""
        self._configuration.entry(uid)
        await self._enable(uid)
        return _json({"uid": uid, "disabled": None})

    async def test(self, request: Request, uid: str, sample: Annotated[Sample | None, Body()] = None) -> Response:
        """Sends one event to the endpoint at once, signed as deliveries are, and answers what came of it.

        It is stored nowhere and never attempted again; filters, suspension and the breaker do not matter to it.
        """
        caller = self._keys.authorize(request.scope["headers"], "subscriptions:write")
        wanted = sample or Sample()
        event = Event(
            id=uuid7(),
            source=f"/keys/{caller.name}",
            type=wanted.type,
            time=timestamp(self._clock()),
            subject=wanted.subject,
            datacontenttype="application/json",
            data=msgspec.json.encode(wanted.data),
        )
        attempted = await self._trials.send(uid, event, current_correlation_id() or "")
        delivered = isinstance(attempted.outcome, Delivered)
        shown = {"delivered": delivered, "event": event.id, "attempt": shown_attempt(attempted.attempt)}
        return _json(shown, status=200)

    async def _lanes(self, subscription: str | None) -> list[str]:
        return [subscription] if subscription is not None else await self._history.buried()

    async def _asked(
        self, what: Literal["again", "purge"], lanes: tuple[str, ...], places: tuple[Place, ...], selection: Selection
    ) -> Response:
        now = self._clock()
        wanted = Wanted(
            what,
            lanes,
            places,
            until=now if selection.until is None else min(epoch_ms(selection.until), now),
            since=0 if selection.since is None else max(epoch_ms(selection.since), 0),
            types=selection.types,
        )
        if wanted.since > wanted.until:
            raise InvalidInput(Reason.INVALID_REQUEST, "since", "is after `until`, or in the future")
        return _progress(await self._replays.ask(wanted))

    async def _found(self, delivery_id: str) -> Found:
        known, uid = await self._history.delivery(delivery_id)
        return Found(uid, known.ref, known.event, known.deliveries[uid], known.partition)

    async def _shown(self, found: Found) -> Response:
        known = await self._history.event_in(found.partition.keys.tag, found.ref)
        if known is None:
            raise InvalidInput(Reason.NOT_FOUND, "delivery", "no delivery of this id is kept")
        return _json(shown_delivery(known, found.uid, self._clock(), attempts=True))


def _progress(progress: Progress) -> Response:
    return _json(progress.shown(), {"Location": f"/api/v1/replays/{progress.id}"})


def _json(content: object, headers: dict[str, str] | None = None, status: int = 202) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
