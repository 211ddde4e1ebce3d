"""How endpoints are doing, as the operator asks for it."""

from hookcast_app.delivery.outcome import Dead, Delivered, Later
from hookcast_app.delivery.wellbeing import FAILURES, EndpointsWellbeing
from hookcast_core.errors import Reason


def wellbeing(boot: str = "boot") -> EndpointsWellbeing:
    """With a clock that stands."""
    return EndpointsWellbeing(boot, lambda: 7)


def states(found: EndpointsWellbeing, cursor: str | None = None) -> dict[str, str]:
    """State by UID of what changed since the cursor."""
    return {one.uid: one.state for one in found.since(cursor).deliveries}


def test_only_what_changed_is_told() -> None:
    """The same outcome again is no change; another reason is."""
    found = wellbeing()
    found.record("a", Delivered())
    found.record("b", Delivered())
    cursor = found.since(None).cursor

    found.record("a", Delivered())
    assert states(found, cursor) == {}
    found.record("b", Later(Reason.BAD_STATUS, 1))

    assert states(found, cursor) == {"b": "Delivering"}
    (told,) = found.since(cursor).deliveries
    assert told.last is not None
    assert (told.last.at, told.last.outcome, told.last.reason) == (7, "Failed", Reason.BAD_STATUS)


def test_one_failure_is_not_failing() -> None:
    """Some in a row are, and a dead letter is; the first success ends it."""
    found = wellbeing()
    for _ in range(FAILURES - 1):
        found.record("a", Later(Reason.BAD_STATUS, 1))
    assert states(found) == {"a": "Delivering"}
    found.record("a", Later(Reason.BAD_STATUS, 1))
    assert states(found) == {"a": "Failing"}
    found.record("b", Dead(Reason.BAD_STATUS))
    assert states(found)["b"] == "Failing"
    cursor = found.since(None).cursor

    found.record("a", Delivered())

    assert states(found, cursor) == {"a": "Delivering"}


def test_a_denied_address_has_a_state_of_its_own() -> None:
    """A user looks for it elsewhere than at the endpoint."""
    found = wellbeing()

    found.record("a", Dead(Reason.EGRESS_DENIED))

    assert states(found) == {"a": "EgressDenied"}


def test_disabled_is_known_without_an_attempt() -> None:
    """After a restart nothing is attempted for a disabled subscription; enabling it is a change too."""
    found = wellbeing()
    found.stopped({"a": ("Disabled", Reason.GONE)})
    assert states(found) == {"a": "Disabled"}
    cursor = found.since(None).cursor
    found.stopped({"a": ("Disabled", Reason.GONE)})
    assert states(found, cursor) == {}

    found.stopped({})

    assert states(found, cursor) == {"a": "Delivering"}


def test_another_process_s_cursor_gets_everything() -> None:
    """So do nonsense and none."""
    found = wellbeing()
    found.record("a", Delivered())

    for cursor in (None, "", "other:1", "boot:x", wellbeing("before").since(None).cursor):
        assert states(found, cursor) == {"a": "Delivering"}
    assert states(found, found.since(None).cursor) == {}


def test_subscriptions_that_are_gone_are_forgotten() -> None:
    """What is kept is bounded by the configuration in force."""
    found = wellbeing()
    found.record("a", Delivered())
    found.record("b", Delivered())

    found.keep({"b"})

    assert states(found) == {"b": "Delivering"}
