"""What is known of the cluster, whatever order it is told in."""

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hookcast_operator.cache import Cache

KEYS = st.sampled_from("abc")


@dataclass(frozen=True)
class Thing:
    """An object; `content` is what matters of it."""

    key: str
    version: int
    content: int = 0

    def compiles_like(self, other: "Thing") -> bool:
        return self.content == other.content


class Interleaving(RuleBasedStateMachine):
    """A cluster, watches that trail behind it, own writes whose answers trail too, and lists."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache[str, Thing] = Cache(lambda _: None)
        self.version = 0
        self.world: dict[str, Thing] = {}
        self.untold: list[tuple[str, Thing]] = []
        self.list: tuple[int, dict[str, Thing]] | None = None
        self.told_since: dict[str, tuple[str, Thing]] = {}
        self.told: dict[str, int] = {}

    @rule(key=KEYS, content=st.integers(0, 1))
    def put(self, key: str, content: int) -> None:
        """Somebody makes or changes an object."""
        self.version += 1
        self.world[key] = Thing(key, self.version, content)
        self.untold.append(("saw", self.world[key]))

    @rule(key=KEYS)
    def write(self, key: str) -> None:
        """We change an object; the answer is on its way, and so is the watch's event."""
        if key in self.world:
            self.version += 1
            self.world[key] = replace(self.world[key], version=self.version)
            self.untold += [("wrote", self.world[key]), ("saw", self.world[key])]

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        """Somebody deletes an object."""
        if key in self.world:
            self.version += 1
            self.untold.append(("gone", replace(self.world.pop(key), version=self.version)))

    @precondition(lambda self: self.untold)
    @rule(data=st.data(), is_lost=st.booleans())
    def tell(self, *, data: st.DataObject, is_lost: bool) -> None:
        """One of the events arrives, in any order, or never does."""
        how, thing = self.untold.pop(data.draw(st.integers(0, len(self.untold) - 1)))
        if is_lost:
            return
        getattr(self.cache, how)(thing)
        if how != "wrote" and thing.version > self.told.get(thing.key, 0):
            self.told[thing.key] = thing.version
            self.told_since[thing.key] = (how, thing)

    @precondition(lambda self: self.list is None)
    @rule()
    def begin_list(self) -> None:
        """A list begins: it will tell of this moment."""
        self.list = self.cache.begin_list(), dict(self.world)
        self.told_since = {}

    @precondition(lambda self: self.list is not None)
    @rule()
    def end_list(self) -> None:
        """It arrives: nothing that was told meanwhile is undone."""
        assert self.list is not None
        (began, found), self.list = self.list, None
        self.cache.listed(began, found.values())
        for key, (how, thing) in self.told_since.items():
            known = self.cache.objects.get(key)
            if how == "saw":
                assert known is not None
                assert known.version >= thing.version
            else:
                assert known is None or known.version > thing.version

    @invariant()
    def nothing_is_invented(self) -> None:
        """What is known was so at some time."""
        assert all(key == thing.key and thing.version <= self.version for key, thing in self.cache.objects.items())

    def teardown(self) -> None:
        """When nothing is under way any more, a list makes it the truth."""
        if self.list is not None:
            self.end_list()
        began = self.cache.begin_list()
        self.cache.listed(began, self.world.values())
        assert self.cache.objects == self.world


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_only_what_matters_is_told() -> None:
    """A change of the content, an object that comes or goes; not a version alone."""
    told: list[str] = []
    cache: Cache[str, Thing] = Cache(told.append)

    cache.saw(Thing("a", 1))
    cache.saw(Thing("a", 2))
    cache.saw(Thing("a", 3, content=1))
    cache.listed(cache.begin_list(), [Thing("a", 3, content=1), Thing("b", 1)])
    cache.listed(cache.begin_list(), [Thing("b", 1)])
    cache.gone(Thing("b", 2))
    cache.gone(Thing("b", 2))

    assert told == ["a", "a", "b", "a", "b"]


def test_the_answer_to_a_write_brings_nothing_back() -> None:
    """An object was deleted while its status was being written: the answer comes after the news of its end."""
    cache: Cache[str, Thing] = Cache(lambda _: None)
    cache.saw(Thing("a", 1))
    cache.gone(Thing("a", 3))

    cache.wrote(Thing("a", 2))
    cache.saw(Thing("a", 2))

    assert not cache.objects


def test_the_end_of_an_older_one_leaves_the_newer() -> None:
    """Events of two Secrets of one name, one after the other, may be told in the other order."""
    cache: Cache[str, Thing] = Cache(lambda _: None)
    cache.saw(Thing("a", 1))
    cache.saw(Thing("a", 3))

    cache.gone(Thing("a", 2))

    assert cache.objects["a"].version == 3


def test_what_went_long_ago_is_forgotten() -> None:
    """Nothing is kept of removed objects once two lists have passed."""
    cache: Cache[str, Thing] = Cache(lambda _: None)
    for number in range(100):
        cache.saw(Thing(str(number), 1))
        cache.gone(Thing(str(number), 2))

    for _ in range(2):
        cache.listed(cache.begin_list(), [])

    assert not cache._touched
    assert not cache._buried
