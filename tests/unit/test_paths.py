"""Who receives at a path that several want."""

from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.paths import Claim, share


def test_who_has_a_path_keeps_it() -> None:
    """Else the first has it; who left a path has no claim to it, and who is refused keeps what it had."""
    a, b, c = (Claim(uid, "p") for uid in "abc")

    assert share([c, a, b], {}) == ({"p": "c"}, {"a": "p", "b": "p"})
    assert share([c, a, b], {"b": "p"}) == ({"p": "b"}, {"c": "p", "a": "p"})
    assert share([a, Claim("b", "q")], {"b": "p"}) == ({"p": "a", "q": "b"}, {})
    assert share([a, b], {"b": "q"}) == ({"p": "a", "q": "b"}, {"b": "p"})


NAMES = st.sampled_from("abcde")
PATHS = st.sampled_from("pqr")


@given(st.lists(st.tuples(NAMES, PATHS), unique_by=lambda one: one[0]), st.dictionaries(PATHS, NAMES))
def test_paths_are_shared_without_taking_any_away(claims: list[tuple[str, str]], owners: dict[str, str]) -> None:
    """Each path has one owner, each source one path at most; who keeps its path has it, or keeps what it had."""
    in_force = {uid: path for path, uid in owners.items()}

    found, late = share([Claim(*one) for one in claims], in_force)

    assert len(set(found.values())) == len(found)
    having = {uid: path for path, uid in found.items()}
    for uid, path in claims:
        assert (having.get(uid) == path) != (uid in late)
        if in_force.get(uid) == path:
            assert having[uid] == path
        if uid in late:
            assert found[path] != uid
            assert having.get(uid) == in_force.get(uid)


def in_rounds(claims: list[Claim], in_force: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The same by rounds: everybody claims, and whoever is refused claims what it had, until nobody is refused."""
    late: dict[str, str] = {}
    claimed = {claim.uid: claim.path for claim in claims}
    while True:
        owners: dict[str, str] = {}
        for uid in sorted(claimed, key=lambda uid: in_force.get(uid) != claimed[uid]):
            owners.setdefault(claimed[uid], uid)
        refused = [uid for uid, path in claimed.items() if owners[path] != uid]
        if not refused:
            return owners, late
        for uid in refused:
            wanted, before = claimed.pop(uid), in_force.get(uid)
            late.setdefault(uid, wanted)
            if before is not None and before != wanted:
                claimed[uid] = before


@given(st.lists(st.tuples(NAMES, PATHS), unique_by=lambda one: one[0]), st.dictionaries(PATHS, NAMES))
def test_it_makes_no_difference_who_is_looked_at_first(claims: list[tuple[str, str]], owners: dict[str, str]) -> None:
    """Rounds give the same, and take as many as there are claims."""
    in_force = {uid: path for path, uid in owners.items()}
    wanted = [Claim(*one) for one in claims]

    assert share(wanted, in_force) == in_rounds(wanted, in_force)


def test_a_chain_of_claims_is_followed_once() -> None:
    """Each wants its neighbour's path, and the first of them one that another has for good: nobody moves."""
    count = 20_000
    claims = [Claim("last", "p0"), *(Claim(f"s{number}", f"p{number}") for number in range(count))]
    in_force = {"last": "p0"} | {f"s{number}": f"p{number + 1}" for number in range(count)}

    owners, late = share(claims, in_force)

    assert owners == {path: uid for uid, path in in_force.items()}
    assert len(late) == count
