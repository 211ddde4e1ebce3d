"""`/api/v1/events`, `/api/v1/deliveries` and `/api/v1/webhook-subscriptions`, for reading. Needs the scope `read`."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from hookcast_app.auth import ApiKeys
from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.history import PLACES_READ, Cursor, History, Known, shown_delivery, shown_event
from hookcast_app.delivery.models import Disabled, Place
from hookcast_app.delivery.replay import Replays
from hookcast_app.delivery.wellbeing import Changes
from hookcast_app.events import event_ref, timestamp
from hookcast_core.configuration import Entry
from hookcast_core.errors import InvalidInput, Reason

Limit = Annotated[int, Query(ge=1, le=200, description="Items a page.")]
_RANKS = re.compile(r"\d{1,9}:\d{1,9}(\.\d{1,9}:\d{1,9}){0,200}", re.ASCII)
CursorText = Annotated[str | None, Query(max_length=2_000, description="`next` of the last page.")]
SCAN_FACTOR = 5
"""A page looks at so many references per item at most; it may then be short, or empty, and still have a next."""


def wellbeing_router(changes: Callable[[str | None], Awaitable[Changes]]) -> APIRouter:
    """`GET /internal/deliveries/health`, for the admin port: how endpoints are doing, as the operator asks for it."""

    async def health(since: Annotated[str | None, Query(max_length=64)] = None) -> Response:
        return _json(await changes(since))

    router = APIRouter(prefix="/internal")
    router.add_api_route("/deliveries/health", health, include_in_schema=False)
    return router


class Reads:
    """The handlers; lives as long as the app."""

    def __init__(
        self,
        history: History,
        replays: Replays,
        configuration: CurrentConfiguration,
        keys: ApiKeys,
        clock: Callable[[], int],
    ) -> None:
        self._history = history
        self._replays = replays
        self._configuration = configuration
        self._keys = keys
        self._clock = clock

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(prefix="/api/v1", dependencies=[Depends(self._may_read)])
        router.add_api_route("/events", self.events, tags=["events"], summary="List events, newest first")
        router.add_api_route(
            "/events/{event_id:path}", self.event, tags=["events"], summary="One event and its deliveries"
        )
        router.add_api_route("/deliveries", self.deliveries, tags=["deliveries"], summary="List deliveries")
        router.add_api_route("/deliveries/{delivery_id}", self.delivery, tags=["deliveries"], summary="One delivery")
        router.add_api_route("/dead-letters", self.dead_letters, tags=["dead letters"], summary="List dead letters")
        router.add_api_route("/replays/{task_id}", self.replay, tags=["dead letters"], summary="How far a replay is")
        router.add_api_route(
            "/webhook-subscriptions/{uid}/deliveries",
            self.deliveries_of,
            tags=["subscriptions"],
            summary="List a subscription's deliveries",
        )
        router.add_api_route(
            "/webhook-subscriptions/{uid}/stats",
            self.stats,
            tags=["subscriptions"],
            summary="How it stands",
        )
        router.add_api_route(
            "/webhook-subscriptions", self.subscriptions, tags=["subscriptions"], summary="List subscriptions"
        )
        router.add_api_route(
            "/webhook-subscriptions/{uid}", self.subscription, tags=["subscriptions"], summary="One subscription"
        )
        return router

    async def _may_read(self, request: Request) -> None:
        self._keys.authorize(request.scope["headers"], "read")

    async def events(self, limit: Limit = 50, cursor: CursorText = None) -> Response:
        """Accepted events, newest first, each with how its deliveries stand."""
        listed = await self._history.events(_cursor(cursor), limit)
        known = [await self._history.event_in(each.tag, each.ref) for each in listed]
        items = [shown_event(each, self._clock()) for each in known if each is not None]
        return _page(items, listed[-1].cursor if len(listed) == limit else None)

    async def event(self, request: Request, event_id: str, source: str | None = None) -> Response:
        """One event, by our id, or by the publisher's with its `source` (by default the caller's own)."""
        caller = self._keys.authorize(request.scope["headers"], "read")
        known = await self._history.event(event_id)
        if known is None:
            known = await self._history.event(event_ref(source or f"/keys/{caller.name}", event_id))
        if known is None:
            raise _not_found("event", "no event of this id and source is kept; events with a source need ?source=")
        return _json(shown_event(known, self._clock()))

    async def deliveries(
        self,
        request: Request,
        subscription: Annotated[str | None, Query(description="A subscription's UID.")] = None,
        event: Annotated[
            str | None, Query(description="An event's id; with `source` if its publisher chose it.")
        ] = None,
        source: str | None = None,
        status: Annotated[Place | None, Query(description="Where the deliveries are.")] = None,
        limit: Limit = 50,
        cursor: CursorText = None,
    ) -> Response:
        """Deliveries of one event, of one subscription, or of all events, newest first in each place."""
        _check_listed(status)
        if event is not None:
            caller = self._keys.authorize(request.scope["headers"], "read")
            return await self._of_event(event, source or f"/keys/{caller.name}", subscription, status)
        if subscription is not None:
            return await self._of_subscription(subscription, status, limit, cursor)
        return await self._of_all(status, limit, cursor)

    async def delivery(self, delivery_id: str) -> Response:
        """One delivery with every attempt that is kept."""
        known, uid = await self._history.delivery(delivery_id)
        return _json(shown_delivery(known, uid, self._clock(), attempts=True))

    async def deliveries_of(
        self, uid: str, status: Annotated[Place | None, Query()] = None, limit: Limit = 50, cursor: CursorText = None
    ) -> Response:
        """The deliveries of one subscription, newest first in each place."""
        _check_listed(status)
        return await self._of_subscription(uid, status, limit, cursor)

    async def dead_letters(
        self,
        subscription: Annotated[str | None, Query(max_length=128, description="A subscription's UID.")] = None,
        limit: Limit = 50,
        cursor: CursorText = None,
    ) -> Response:
        """Deliveries that died, the newest first, also of subscriptions that are gone."""
        uids = [subscription] if subscription is not None else await self._history.buried()
        listed = await self._history.deliveries(uids, Place.DEAD, _cursor(cursor), limit)
        items: list[dict[str, object]] = []
        for each in listed:
            items += await self._shown(each.tag, each.ref, each.uid, Place.DEAD)
        return _page(items, listed[-1].cursor if len(listed) == limit else None)

    async def replay(self, task_id: str) -> Response:
        """A replay or purge that was asked for; it is forgotten some time after it is done."""
        progress = await self._replays.progress(task_id)
        if progress is None:
            raise _not_found("replay", "no replay of this id is known (any more)")
        return _json(progress.shown())

    async def stats(self, uid: str) -> Response:
        """How many deliveries are where, and how its endpoint is doing."""
        self._configuration.entry(uid)
        counts, failing = await self._history.standing(uid)
        now = self._clock()
        is_open = failing is not None and failing.open_until is not None and failing.open_until > now
        return _json(
            {
                "uid": uid,
                "deliveries": counts,
                "failingSince": timestamp(failing.since) if failing else None,
                "circuitBreaker": "open" if is_open else "closed",
                "filterErrors": self._configuration.filter_errors[uid],
            }
        )

    async def subscriptions(self) -> Response:
        """The subscriptions in force, and what is wrong with those that are not."""
        entries = sorted(self._configuration.entries.values(), key=lambda entry: (entry.namespace, entry.name))
        disabled = await self._history.disabled()
        items = [_shown_subscription(entry, disabled.get(entry.uid), self._clock()) for entry in entries]
        return _json({"items": items, "problems": self._configuration.problems})

    async def subscription(self, uid: str) -> Response:
        """One subscription in force."""
        entry = self._configuration.entry(uid)
        return _json(_shown_subscription(entry, (await self._history.disabled()).get(uid), self._clock()))

    async def _of_event(self, event: str, source: str, subscription: str | None, status: Place | None) -> Response:
        known = await self._history.event(event)
        if known is None:
            known = await self._history.event(event_ref(source, event))
        items = self._matching(known, subscription, status) if known else []
        return _page(items, None)

    async def _of_subscription(self, uid: str, status: Place | None, limit: int, cursor: str | None) -> Response:
        places = (status,) if status else PLACES_READ
        start, before = _place_cursor(places, cursor)
        items: list[dict[str, object]] = []
        for place in places[start:]:
            while len(items) < limit:
                refs, before = await self._refs_in(uid, place, before, limit - len(items))
                for tag, ref in refs:
                    items += await self._shown(tag, ref, uid, None)
                if not refs:
                    break
            if len(items) >= limit:
                return _page(items, f"{place.value}~{before}")
            before = ""
        return _page(items, None)

    async def _refs_in(self, uid: str, place: Place, before: str, limit: int) -> tuple[list[tuple[int, str]], str]:
        """(tag, ref) of the next in one place, and where its listing goes on behind them."""
        if place is Place.LATER:
            refs, ranks = await self._history.later(uid, _ranks(before), limit)
            return refs, ".".join(f"{tag}:{rank}" for tag, rank in ranks.items())
        listed = await self._history.deliveries([uid], place, _cursor(before or None), limit)
        return [(each.tag, each.ref) for each in listed], listed[-1].cursor if listed else before

    async def _of_all(self, status: Place | None, limit: int, cursor: str | None) -> Response:
        items: list[dict[str, object]] = []
        looked = 0
        before = _cursor(cursor)
        while len(items) < limit and looked < limit * SCAN_FACTOR:
            listed = await self._history.events(before, limit)
            if not listed:
                return _page(items, None)
            for each in listed:
                items += await self._shown(each.tag, each.ref, None, status)
                cursor, before = each.cursor, Cursor(*each[:4])
                if len(items) >= limit:
                    break
            looked += len(listed)
        return _page(items, cursor)

    async def _shown(self, tag: int, ref: str, uid: str | None, status: Place | None) -> list[dict[str, object]]:
        known = await self._history.event_in(tag, ref)
        return self._matching(known, uid, status) if known else []

    def _matching(self, known: Known, uid: str | None, status: Place | None) -> list[dict[str, object]]:
        uids = known.deliveries if uid is None else [uid] if uid in known.deliveries else []
        shown = [shown_delivery(known, each, self._clock()) for each in uids]
        return [each for each in shown if status is None or each["status"] == status.value]


def _shown_subscription(entry: Entry, disabled: Disabled | None, now_ms: int) -> dict[str, object]:
    """A subscription as its user wrote it: references to Secrets, never what is in them."""
    return {
        "uid": entry.uid,
        "namespace": entry.namespace,
        "name": entry.name,
        "source": entry.source,
        "generation": entry.generation,
        "disabled": {"reason": disabled.reason, "at": timestamp(disabled.at)} if disabled else None,
        "held": None if entry.can_sign(now_ms) else {"reason": Reason.NO_SIGNING_KEY},
        "spec": entry.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def _wrong_cursor() -> InvalidInput:
    return InvalidInput(Reason.INVALID_REQUEST, "cursor", "is none of this listing; give `next` of the page before")


def _cursor(text: str | None) -> Cursor | None:
    """Where a listing goes on. Raises InvalidInput."""
    try:
        return None if text is None else Cursor.read(text)
    except ValueError:
        raise _wrong_cursor() from None


def _ranks(text: str) -> dict[int, int]:
    pairs = (pair.split(":") for pair in text.split(".")) if text else ()
    return {int(tag): int(rank) for tag, rank in pairs}


def _place_cursor(places: Sequence[Place], cursor: str | None) -> tuple[int, str]:
    """Which place a subscription's listing goes on with, and where in it ("": from its start). Raises InvalidInput."""
    if cursor is None:
        return 0, ""
    name, _, before = cursor.partition("~")
    for at, place in enumerate(places):
        if place.value == name:
            if place is Place.LATER and not _RANKS.fullmatch(before):
                raise _wrong_cursor()
            if place is not Place.LATER:
                _cursor(before)
            return at, before
    raise _wrong_cursor()


def _check_listed(status: Place | None) -> None:
    if status is Place.IN_FLIGHT:
        raise InvalidInput(Reason.INVALID_REQUEST, "status", "deliveries in flight are listed as `waiting`")


def _not_found(what: str, detail: str) -> InvalidInput:
    return InvalidInput(Reason.NOT_FOUND, what, detail)


def _page(items: list[dict[str, object]], cursor: str | None) -> Response:
    return _json({"items": items, "next": cursor})


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
