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
