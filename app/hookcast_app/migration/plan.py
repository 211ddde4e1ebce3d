"""What a migration may do, decided from what the two Redis were found to hold. Pure."""

from enum import Enum, auto
from typing import NamedTuple

from hookcast_app.redis import Mark, Phase
from hookcast_core.errors import InvalidInput, Reason

SOURCE = "from"
TARGET = "to"


class Found(NamedTuple):
    """One side as it was found: which data, how far an earlier migration came, how many keys, events, partitions."""

    instance: str | None
    mark: Mark | None
    keys: int
    events: int
    partitions: int = 1


class Plan(Enum):
    """What is to be done."""

    COPY = auto()
    NOTHING = auto()
    """All of it was done by an earlier run."""


def plan(source: Found, target: Found, *, force: bool) -> Plan:
    """What `hookcast migrate` does about these two. An interrupted one begins again; what it copied is thrown away.

    Raises InvalidInput (MigrationRefused, field `from` or `to`) that says what `--force` would go on with.
    """
    for side, found in ((SOURCE, source), (TARGET, target)):
        if found.partitions > 1:
            detail = f"is in {found.partitions} partitions; only what is in one is moved (it can grow afterwards)"
            raise refused(side, detail)
    if source.instance is None:
        raise refused(SOURCE, "holds nothing of Hookcast's; name the Redis that the servers use")
    if source.mark is not None and source.mark.phase is Phase.FILLING:
        raise refused(SOURCE, f"holds a copy that is not whole, of {source.mark.peer}; end that migration first")
    if source.mark is not None and source.mark.phase is Phase.MOVED:
        return _again(source.instance, source.mark, target, force=force)
    return _into(source.instance, target, force=force)


def may_abandon(source: Found) -> bool:
    """Whether there is something to abandon. Raises InvalidInput if the source has been left for good."""
    if source.mark is None or source.mark.phase is Phase.FILLING:
        return False
    if source.mark.phase is Phase.MOVED:
        raise refused(
            SOURCE, f"was moved to {source.mark.peer} ({source.mark.since}), which may have accepted events since"
        )
    return True


def refused(side: str, detail: str) -> InvalidInput:
    """The refusal, naming the option at fault."""
    return InvalidInput(Reason.MIGRATION_REFUSED, side, detail)


def _again(instance: str, mark: Mark, target: Found, *, force: bool) -> Plan:
    """The source was left already: once its copy was opened, the copy is what counts."""
    if target.mark is None and target.instance == instance:
        return Plan.NOTHING
    if force or _is_unfinished(instance, target):
        return Plan.COPY
    raise refused(
        SOURCE,
        f"was moved to {mark.peer} ({mark.since}) already, and what was accepted there since is not in it; "
        "--force copies it all the same",
    )


def _into(instance: str, target: Found, *, force: bool) -> Plan:
    if force or _is_unfinished(instance, target) or target.keys == 0:
        return Plan.COPY
    if target.mark is not None and target.mark.phase is Phase.FILLING:
        what = f"is being filled from another Redis, {target.mark.peer}"
    else:
        what = f"holds {target.keys:,} keys of Hookcast's, {target.events:,} events among them"
    raise refused(TARGET, f"{what}; name an empty one, or --force, which deletes them")


def _is_unfinished(instance: str, target: Found) -> bool:
    """Whether the target is a copy of this source that was never opened, so that nothing in it is missed."""
    mark = target.mark
    return mark is not None and mark.phase is Phase.FILLING and mark.instance == instance
