"""The one function of kopf that every stream passes, and what is put around it."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kopf._cogs.clients import errors, watching

from hookcast_operator import watches
from hookcast_operator.watches import SILENT_SECONDS, Watches

LISTED = watching.Bookmark.LISTED


@dataclass(frozen=True)
class Resource:
    """As much of kopf's as is used."""

    plural: str


class Told:
    """Watches around a stream that is made up, and what they told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lists = 0
        self.restarts: list[str] = []
        self.stream: list[Any] = []
        self.watches = Watches(
            on_list=self._listed,
            on_restart=self.restarts.append,
            is_known=lambda _plural, event: bool(event["object"].get("known")),
            clock=lambda: self.now,
        )

    def _listed(self) -> None:
        self.lists += 1

    async def run(self, plural: str = "secrets", namespace: str | None = None, *stream: Any) -> list[Any]:
        """One stream, begun by kopf's name for it; what comes out of it."""
        self.stream = list(stream)
        found = watching.continuous_watch(
            resource=Resource(plural),  # type: ignore[arg-type]
            namespace=namespace,  # type: ignore[arg-type]
            settings=None,  # type: ignore[arg-type]
            operator_pause_waiter=None,  # type: ignore[arg-type]
        )
        return [event async for event in found]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    found = Told()

    async def stream(**_: Any) -> AsyncIterator[Any]:
        for event in found.stream:
            if isinstance(event, Exception):
                raise event
            yield event

    monkeypatch.setattr(watching, "continuous_watch", stream)
    monkeypatch.setattr(watches, "BROKEN_SECONDS", 0)
    remove = found.watches.install()
    yield found
    remove()
    assert watching.continuous_watch is stream


def test_kopf_is_as_it_was() -> None:
    """A function of the module, called by its name there, with what identifies a stream; upgrades must look here."""
    parameters = inspect.signature(watching.continuous_watch).parameters
    assert set(parameters) == {"settings", "resource", "namespace", "operator_pause_waiter"}
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in parameters.values())
    assert inspect.isasyncgenfunction(watching.continuous_watch)
    assert "continuous_watch(" in inspect.getsource(watching.infinite_watch)
    assert "Bookmark.LISTED" in inspect.getsource(watching.continuous_watch)


async def test_a_list_that_is_not_the_first_is_told(told: Told) -> None:
    """By stream: the first list of each is no restart."""
    assert not told.watches.are_listed
    await told.run("secrets", None, LISTED)
    await told.run("webhooksources", "shop", LISTED)
    assert (told.lists, told.watches.are_listed) == (0, True)

    await told.run("secrets", None, LISTED)

    assert (told.lists, told.restarts) == (1, ["secrets"])


async def test_a_stream_that_was_not_listed_is_not_ready(told: Told) -> None:
    """It began, and broke before its end."""
    await told.run("secrets", None, LISTED)
    await told.run("webhooksources", None, errors.APIError("no", status=403, headers={}))

    assert not told.watches.are_listed


async def test_a_namespace_that_may_not_be_watched_holds_up_nothing(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after it was deleted: it is tried again less and less often, and the others are what counts."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    await told.run("secrets", "shop", LISTED)
    for _ in range(7):
        await told.run("secrets", "gone", errors.APIForbiddenError("no", status=403, headers={}))
    told.now = SILENT_SECONDS + 1

    assert waits == [1, 2, 5, 15, 30, 30, 30]
    assert told.watches.are_listed
    assert told.watches.silent == ["secrets of shop"]
    await told.run("secrets", "gone", LISTED)
    told.now += SILENT_SECONDS + 1
    assert told.watches.silent == ["secrets of shop", "secrets of gone"]


async def test_silence_is_named(told: Told) -> None:
    """An event or a bookmark of any kind ends it; a stream that only begins again says nothing."""
    await told.run("secrets", "shop", LISTED)
    await told.run("secrets", None, LISTED)
    told.now = SILENT_SECONDS
    assert told.watches.silent == []
    told.now += 1
    await told.run("secrets", None, {"type": "BOOKMARK", "object": {}})
    await told.run("secrets", "shop")

    assert told.watches.silent == ["secrets of shop"]


async def test_what_is_known_goes_no_further(told: Told) -> None:
    """Though it shows that the stream is alive."""
    told.now = SILENT_SECONDS + 1
    known, news = ({"type": "MODIFIED", "object": {"known": flag}} for flag in (True, False))

    assert await told.run("secrets", None, LISTED, known, news) == [LISTED, news]

    assert told.watches.silent == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: watching.WatchingError("Error in the watch-stream: {'code': 500}"),
        lambda: errors.APIForbiddenError("no", status=403, headers={}),
        lambda: errors.APIServerError("no", status=500, headers={}),
    ],
)
async def test_a_refused_stream_ends_and_nothing_else_does(told: Told, make: Callable[[], Exception]) -> None:
    """Kopf begins it anew; what it told before was told."""
    news = {"type": "ADDED", "object": {}}

    assert await told.run("secrets", None, news, make()) == [news]


async def test_other_errors_are_ours(told: Told) -> None:
    """And end the operator."""
    with pytest.raises(ZeroDivisionError):
        await told.run("secrets", None, ZeroDivisionError())
