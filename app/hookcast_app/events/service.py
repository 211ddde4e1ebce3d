"""Accepts events: matches them, and has them written to the partitions where they belong."""

import asyncio
from collections.abc import Callable, Container, Sequence
from hashlib import sha256

import msgspec

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.events.encoding import stored, structured
from hookcast_app.events.models import Accepted, Event, timestamp, uuid7
from hookcast_app.events.placing import Placing
from hookcast_app.events.store import ELSEWHERE, REUSED, STORED, EventStore, Publication
from hookcast_app.events.writer import Writer
from hookcast_app.observability import Metrics
from hookcast_app.realtime import encode_publication
from hookcast_app.redis import LayoutChanged, Partition, Partitions
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
OUR_SOURCE = "/hookcast"
"""The `source` of events of ours."""
MAX_QUEUED_BYTES = 67_108_864
"""Events accepted from clients and not yet written; beyond it publishers are told to come back."""
TRIES = 5
"""How often an event is placed anew because there came to be more partitions meanwhile."""


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


def _settled(result: int | BaseException) -> int | None:
    if isinstance(result, LayoutChanged):
        return None
    if isinstance(result, BaseException):
        raise result
    return result


def _decided(trials: Sequence[Trial]) -> list[Matches]:
    limit = fair_limit(trials, MAX_REQUEST_COST)
    return [trial.matches(limit) for trial in trials]


class Events:
    """The way in for every event; lives as long as the app. `run()` holds its tasks, a writer for each partition.

    `open_store` makes the store of a partition; `full` says why nothing is accepted, if that is so.
    """

    def __init__(
        self,
        partitions: Partitions,
        open_store: Callable[[Partition], EventStore],
        configuration: CurrentConfiguration,
        clock: Callable[[], int],
        metrics: Metrics,
        *,
        dedup_seconds: int,
        full: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._full = full
        self._partitions = partitions
        self._open_store = open_store
        self._stores: dict[int, EventStore] = {}
        self._writers: dict[int, Writer] = {}
        self._placing = Placing(partitions, self._stores, dedup_seconds, clock)
        self._configuration = configuration
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._metrics = metrics
        metrics.gauge(
            "events_queued_bytes", "Events taken from clients and not yet written.", lambda: self._queued_bytes
        )
        self._open()
        partitions.listen(self._grown)

    @property
    def _queued_bytes(self) -> int:
        return sum(writer.queued_bytes for writer in self._writers.values())

    async def publish(self, events: Sequence[Event], correlation_id: str) -> list[Accepted | InvalidInput]:
        """Stores events and says for each what became of it; returns when Redis has them.

        Raises Unavailable if Redis does not answer: some may be stored all the same, so publish again with the same
        ids.
        """
        if (reason := self._full()) is not None:
            raise Unavailable(reason, retry_after=10)
        publications = await self._prepare(events, correlation_id)
        verdicts = await self._write(publications)
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
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for writer in self._writers.values():
                tasks.create_task(writer.run(), name="event writer")
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Gives connections back."""
        for store in self._stores.values():
            await store.close()

    def _open(self) -> list[Writer]:
        """Makes stores and writers for partitions that have none."""
        made = []
        for partition in self._partitions.all:
            tag = partition.keys.tag
            if tag not in self._writers:
                self._stores[tag] = self._open_store(partition)
                self._writers[tag] = Writer(self._stores[tag])
                made.append(self._writers[tag])
        return made

    async def _grown(self) -> None:
        for writer in self._open():
            if self._tasks is not None:
                self._tasks.create_task(writer.run(), name="event writer")

    async def _write(self, publications: Sequence[Publication]) -> list[int]:
        """What became of each (EventStore.publish). Raises Unavailable."""
        if len(publications) == len(self._partitions.all) == 1:  # the usual case, and the rest costs as much again
            try:
                return [await self._enqueue(publications[0], self._partitions.home, self._partitions.epoch)]
            except LayoutChanged:
                await self._partitions.renew()
        verdicts: dict[int, int] = {}
        doubtful: set[int] = set()
        for _ in range(TRIES):
            left = [at for at in range(len(publications)) if at not in verdicts]
            try:
                found = await self._try([publications[at] for at in left], {left.index(at) for at in doubtful})
            except LayoutChanged:
                found = [None] * len(left)
            each = list(zip(left, found, strict=True))
            verdicts |= {at: one for at, one in each if one is not None and one != ELSEWHERE}
            if len(verdicts) == len(publications):
                return [verdicts[at] for at in range(len(publications))]
            doubtful = {at for at, one in each if one == ELSEWHERE}
            if None in found:
                await self._partitions.renew()
        raise Unavailable("the partitions are being changed", retry_after=1)

    async def _try(self, publications: Sequence[Publication], doubtful: Container[int]) -> list[int | None]:
        """What became of each, None if there are more partitions now. Raises Unavailable, LayoutChanged."""
        epoch = self._partitions.epoch
        placed = await self._placing.place(publications, doubtful)
        futures: list[asyncio.Future[int] | int] = [
            where if isinstance(where, int) else self._enqueue(publication, where, epoch)
            for publication, where in zip(publications, placed, strict=True)
        ]
        waiting = [each for each in futures if not isinstance(each, int)]
        results = iter(await asyncio.gather(*waiting, return_exceptions=True))
        return [_settled(each if isinstance(each, int) else next(results)) for each in futures]

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
            is_ordered=any(entry.spec.delivery.ordering == "FIFO" for entry in matches.entries),
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

    def _enqueue(self, publication: Publication, partition: Partition, epoch: int) -> asyncio.Future[int]:
        if self._queued_bytes > MAX_QUEUED_BYTES:
            raise Unavailable("too many events wait for Redis")
        return self._writers[partition.keys.tag].enqueue(publication, epoch)

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
