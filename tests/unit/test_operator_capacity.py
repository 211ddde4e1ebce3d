"""At the ceiling: what is in force stays, and nothing keeps out what would fit."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hookcast_core.document import Document, make_document
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_operator.compile import Compiler
from hookcast_operator.ledger import Ledger
from hookcast_operator.objects import custom_object
from hookcast_operator.reconcile import Reconciler
from hookcast_operator.store import Published

ROOM = 900


class Store:
    """Holds lines of at most ROOM bytes together."""

    def __init__(self) -> None:
        self.document: Document = make_document(0, "o", [], [])

    async def fits(self, entries: Sequence[bytes], sources: Sequence[bytes]) -> bool:
        return sum(map(len, (*entries, *sources))) <= ROOM

    async def publish(self, entries: Sequence[bytes], sources: Sequence[bytes]) -> Published:
        if not await self.fits(entries, sources):
            raise InvalidInput(Reason.CAPACITY_EXCEEDED, None, "full")
        self.document = make_document(self.document.sequence + 1, "o", entries, sources)
        return Published(self.document, b"", 0)


class Full:
    """A reconciler over sources that a test sets, and the store with little room."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.store = Store()
        observed = SimpleNamespace(
            objects=SimpleNamespace(objects=self.objects),
            secrets=SimpleNamespace(objects={}),
            unlisted=frozenset(),
            namespace_is_allowed=lambda _: True,
        )
        compiler = Compiler(
            dispatcher="hookcast", policy=EgressPolicy(()), every_secret=False, generate_in=(), on_defect=self._defect
        )
        self.reconciler = Reconciler(
            cast("Any", observed),
            compiler,
            cast("Any", self.store),
            Ledger(),
            on_published=lambda *_: None,
            want=lambda _: None,
            look_for=lambda _: None,
            on_seconds=lambda _: None,
        )

    @staticmethod
    def _defect(_identity: object, error: Exception) -> None:
        raise error

    async def put(self, uid: str, generation: int, path: str, padding: int = 0) -> None:
        """A source, made on the day of its UID's letter."""
        response = {"status": 200, "body": "x" * padding}
        spec = {
            "path": path,
            "verification": {"scheme": "None"},
            "event": {"type": "a.b"},
            "response": response,
        }
        metadata = {
            "uid": uid,
            "generation": generation,
            "namespace": "shop",
            "name": uid,
            "creationTimestamp": f"2026-01-{ord(uid[0]) - 96:02}T00:00:00Z",
            "resourceVersion": "7",
        }
        self.objects[uid] = custom_object("WebhookSource", {"metadata": metadata, "spec": spec})
        await self.reconciler._reconcile()

    def refusal(self, uid: str) -> str | None:
        """Why its newest generation is not in force."""
        accepted = self.reconciler.judgements[uid].accepted
        return accepted.reason if accepted else None

    def generations(self, uid: str) -> list[bytes]:
        """The lines that are in force of it."""
        return [line for line in self.store.document.sources if f'"uid":"{uid}"'.encode() in line]


@pytest.fixture
def full() -> Full:
    return Full()


async def test_an_edit_that_does_not_fit_keeps_out_nothing_else(full: Full) -> None:
    """Another object, however much newer, gets the room that there is."""
    await full.put("a", 1, "orders")
    await full.put("a", 2, "orders", padding=900)
    await full.put("b", 1, "bees")

    assert (full.refusal("a"), full.refusal("b")) == ("CapacityExceeded", None)
    assert b'"generation":1' in full.generations("a")[0]
    assert full.generations("b")


async def test_a_path_that_could_not_be_given_up_is_not_taken(full: Full) -> None:
    """Its source asked for another one with an edit that does not fit: so it still has this one."""
    await full.put("b", 1, "own", padding=100)
    await full.put("c", 1, "orders")
    await full.put("c", 2, "elsewhere", padding=900)

    await full.put("b", 2, "orders")

    assert full.refusal("c") == "CapacityExceeded"
    assert full.refusal("b") == "CapacityExceeded"
    paths = [line.partition(b'"path":"')[2].partition(b'"')[0] for line in full.store.document.sources]
    assert sorted(paths) == [b"orders", b"own"]


async def test_a_path_that_is_given_up_is_free_once_that_is_stored(full: Full) -> None:
    """What had to wait for it needs nobody to touch it."""
    await full.put("c", 1, "orders", padding=ROOM // 2)
    await full.put("b", 1, "own", padding=10)
    await full.put("a", 1, "more", padding=ROOM)
    assert full.refusal("a") == "CapacityExceeded"

    del full.objects["a"]
    await full.put("c", 2, "elsewhere", padding=10)
    await full.put("b", 2, "orders", padding=10)

    assert full.refusal("b") is None
