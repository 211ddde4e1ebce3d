"""Which webhook source has a path that several want. Pure; the operator and the app decide by it alike."""

from collections.abc import Iterable, Mapping

from hookcast_core.configuration import SourceEntry
from hookcast_core.errors import InvalidInput, Reason


def share_paths(
    sources: Iterable[SourceEntry], in_force: Mapping[str, SourceEntry]
) -> tuple[list[SourceEntry], list[SourceEntry]]:
    """Those that have their path, and those that come too late for theirs.

    Who has a path in `in_force` (by UID) keeps it, and else the first of `sources` gets it: in the order of their
    creation the oldest.
    """
    taken: set[str] = set()
    having: list[SourceEntry] = []
    late: list[SourceEntry] = []
    for source in sorted(sources, key=lambda source: not _has_it(source, in_force)):
        (late if source.path in taken else having).append(source)
        taken.add(source.path)
    return having, late


def path_taken(source: SourceEntry) -> InvalidInput:
    """The refusal of a source that came too late. It does not say whose: that may be in another namespace."""
    detail = f"/webhooks/{source.path} is another source's; choose another path"
    return InvalidInput(Reason.PATH_TAKEN, "spec.path", detail)


def _has_it(source: SourceEntry, in_force: Mapping[str, SourceEntry]) -> bool:
    before = in_force.get(source.uid)
    return before is not None and before.path == source.path
