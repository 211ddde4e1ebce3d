"""The objects that are known, fed by watches, and set right by lists. Pure.

A watch is a hint, and may miss that something went; a list is the truth of the moment when it began. What a watch told
since then is newer than the list.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_co = TypeVar("K_co", bound=Hashable, covariant=True)


class Kept(Protocol[K_co]):
    """What can be kept: it has a key, a version that rises, and knows what matters of a change."""

    @property
    def key(self) -> K_co:
        """What it is kept under."""
        ...

    @property
    def version(self) -> int:
        """Rises with every change of the same object."""
        ...

    def compiles_like(self, other: Any) -> bool:
        """Whether a change to `other` changes nothing that a configuration holds."""
        ...


O = TypeVar("O", bound=Kept[Any])  # noqa: E741  an object


class Cache(Generic[K, O]):
    """The objects of one kind, by key. `on_change` is told the keys of what matters."""

    def __init__(self, on_change: Callable[[K], None]) -> None:
        self._objects: dict[K, O] = {}
        self._moment = 0
        self._touched: dict[K, int] = {}
        self._buried: dict[K, int] = {}
        self._on_change = on_change

    @property
    def objects(self) -> Mapping[K, O]:
        """What is known."""
        return self._objects

    def saw(self, found: O) -> None:
        """A watch told of an object, or we made it; what is older than what is known changes nothing."""
        if found.version > self._buried.get(found.key, -1):
            self._touch(found.key)
            self._put(found)

    def wrote(self, found: O) -> None:
        """We changed an object; if it went meanwhile it stays gone."""
        if found.key in self._objects:
            self.saw(found)

    def gone(self, found: O) -> None:
        """A watch told that an object is gone, as it was last; a newer one of the same key stays."""
        key = found.key
        self._touch(key)
        self._buried[key] = max(found.version, self._buried.get(key, -1))
        known = self._objects.get(key)
        if known is not None and known.version <= found.version:
            del self._objects[key]
            self._on_change(key)

    def begin_list(self) -> int:
        """The moment when a list begins."""
        self._moment += 1
        return self._moment

    def listed(self, began: int, found: Iterable[O]) -> None:
        """Takes a whole list that began at that moment: what it lacks is gone."""
        listed = {one.key: one for one in found}
        newer = {key for key, moment in self._touched.items() if moment >= began}
        for key in self._objects.keys() - listed.keys() - newer:
            del self._objects[key]
            self._on_change(key)
        for key, one in listed.items():
            if key not in newer:
                self._replace(one)  # with an older one, too, after the cluster was restored from a backup
            elif one.version > self._buried.get(key, -1):  # else it went while the list was read
                self._put(one)
        self._touched = {key: moment for key, moment in self._touched.items() if moment >= self._moment}
        self._buried = {key: version for key, version in self._buried.items() if key in self._touched}

    def _put(self, found: O) -> None:
        before = self._objects.get(found.key)
        if before is None or before.version <= found.version:
            self._replace(found)

    def _replace(self, found: O) -> None:
        before = self._objects.get(found.key)
        self._objects[found.key] = found
        if before is None or not before.compiles_like(found):
            self._on_change(found.key)

    def _touch(self, key: K) -> None:
        self._touched[key] = self._moment
