"""Accepts events: matches them, and writes those that arrive in the same loop tick together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.events.encoding import stored, structured
from hookcast_app.events.models import Accepted, Event, timestamp, uuid7
from hookcast_app.events.store import REUSED, STORED, EventStore, Publication
from hookcast_app.observability import Metrics
from hookcast_app.realtime import encode_publication
from hookcast_app.references import reference
from hookcast_app.subscriptions import Matches, Trial, fair_limit
from hookcast_core.errors import InvalidInput, Reason, Unavailable

OFF_LOOP_COST = 40_000
"""A request whose filters may cost more (about a millisecond, see `filters`) is matched in a thread. An evaluation
holds the interpreter there as well, but others have their turn after each."""
MAX_REQUEST_COST = 200_000_000
"""What the filters of all events of one request may cost: five seconds at the very worst, a tenth of it as measured."""
TURN_COST = 40_000
"""After so much work for one request others get their turn on the loop."""
_ENCODING_COST = 600
_TRIAL_COST = 100
MAX_WRITE_EVENTS = 2_000
MAX_WRITE_BYTES = 4_194_304
"""What goes into one script call, so that none blocks Redis for long; one event alone may be larger."""
OUR_SOURCE = "/hookcast"
"""The `source` of events of ours."""
MAX_QUEUED_BYTES = 67_108_864
"""Events accepted from clients and not yet written; beyond it publishers are told to come back."""


class _Waiting(NamedTuple):
    publication: Publication
    verdict: asyncio.Future[int]


class _Turns:
    """Gives others their turn on the loop while a request with many events is worked on; costs as in `filters`."""

    def __init__(self) -> None:
        self._cost = 0

    def are_due(self, cost: int) -> bool:
        """Whether it is others' turn after work that cost so much."""
        self._cost += cost
        is_due = self._cost > TURN_COST
        if is_due:
            self._cost = 0
        return is_due


def _decided(trials: Sequence[Trial]) -> list[Matches]:
    limit = fair_limit(trials, MAX_REQUEST_COST)
    return [trial.matches(limit) for trial in trials]


class Events:
    """The way in for every event; lives as long as the app. `run()` is its one task, the writer."""

    def __init__(
        self,
        store: EventStore,
        configuration: CurrentConfiguration,
        clock: Callable[[], int],
        metrics: Metrics,
        full: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._full = full
        self._store = store
        self._configuration = configuration
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._filled = asyncio.Event()
        self._metrics = metrics
        metrics.gauge(
            "events_queued_bytes", "Events taken from clients and not yet written.", lambda: self._queued_bytes
        )

    async def publish(self, events: Sequence[Event], correlation_id: str) -> list[Accepted | InvalidInput]:
        """Stores events and says for each what became of it; returns when Redis has them.

        Raises Unavailable if Redis does not answer: some may be stored all the same, so publish again with the same
        ids.
        """
        if (reason := self._full()) is not None:
            raise Unavailable(reason, retry_after=10)
        publications = await self._prepare(events, correlation_id)
        if len(publications) == 1:  # the usual case, and gather costs as much as all the rest here
            verdicts = [await self._enqueue(publications[0])]
        else:
            verdicts = await asyncio.gather(*map(self._enqueue, publications))
        return [
            self._answer(event, publication, verdict)
            for event, publication, verdict in zip(events, publications, verdicts, strict=True)
        ]

    async def report(self, event_type: str, data: dict[str, object], event_id: str | None = None) -> None:
        """Publishes an event of ours; one with an id once, however many processes report it. Raises Unavailable."""
        event = Event(
            id=event_id or uuid7(),
            source=OUR_SOURCE,
            type=event_type,
            time=timestamp(self._clock()),
            datacontenttype="application/json",
            data=msgspec.json.encode(data),
            given=sha256(event_id.encode()).digest()[:16] if event_id else None,
        )
        await self.publish([event], "")

    async def run(self) -> None:
        """Writes what is queued, one call at a time: what arrives during a call goes together into the next."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                await self._write(self._take())

    async def _prepare(self, events: Sequence[Event], correlation_id: str) -> list[Publication]:
        turns = _Turns()
        publications = []
        for event, matches in zip(events, await self._match(events, turns), strict=True):
            self._configuration.count_filter_errors(matches.errors)
            publications.append(self._publication(event, matches, correlation_id))
            if turns.are_due(_ENCODING_COST + publications[-1].size // 32):
                await asyncio.sleep(0)
        return publications

    def _publication(self, event: Event, matches: Matches, correlation_id: str) -> Publication:
        body, data_at = structured(event)
        record = stored(event, data_at, self._clock(), correlation_id)
        return Publication(
            reference=reference(event.ref, event.orderingkey),
            given=event.given,
            record=msgspec.json.encode(record),
            body=body,
            lanes=[entry.uid for entry in matches.entries],
            channels=event.channels,
            payload=encode_publication(body) if event.channels else b"",
        )

    async def _match(self, events: Sequence[Event], turns: "_Turns") -> list[Matches]:
        matcher = self._configuration.matcher
        trials, cost = [], 0
        for event in events:
            trial = matcher.trial(event)
            trials.append(trial)
            cost += trial.cost
            if turns.are_due(_TRIAL_COST + 40 * len(trial.costs)):
                await asyncio.sleep(0)
        if cost > OFF_LOOP_COST:
            return await asyncio.to_thread(_decided, trials)
        return [trial.matches() for trial in trials]

    def _enqueue(self, publication: Publication) -> asyncio.Future[int]:
        if self._queued_bytes > MAX_QUEUED_BYTES:
            raise Unavailable("too many events wait for Redis")
        verdict: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(publication, verdict))
        self._queued_bytes += publication.size
        self._filled.set()
        return verdict

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < MAX_WRITE_EVENTS:
            size += self._queue[0].publication.size
            if batch and size > MAX_WRITE_BYTES:
                break
            batch.append(self._queue.popleft())
            self._queued_bytes -= batch[-1].publication.size
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            verdicts = await self._store.publish([waiting.publication for waiting in batch])
        except BaseException as error:
            for waiting in batch:
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(
                        error if isinstance(error, Unavailable) else Unavailable("the writer of events stopped")
                    )
            if not isinstance(error, Unavailable):
                raise
            return
        for waiting, verdict in zip(batch, verdicts, strict=True):
            if not waiting.verdict.done():  # a client that went away cancelled it
                waiting.verdict.set_result(verdict)

    def _answer(self, event: Event, publication: Publication, verdict: int) -> Accepted | InvalidInput:
        if verdict == STORED:
            self._metrics.event("accepted")
            return Accepted(event.id, len(publication.lanes), duplicate=False)
        if verdict == REUSED:
            self._metrics.event("refused", Reason.EVENT_ID_REUSED)
            return InvalidInput(
                Reason.EVENT_ID_REUSED,
                "id",
                "this source has used this id for another event; give each event an id of its own",
            )
        self._metrics.event("duplicate")
        return Accepted(event.id, verdict, duplicate=True)
