"""What processes tell one another."""

import pytest

from hookcast_app.auth.identity import Override, Switch
from hookcast_app.realtime import control


@pytest.mark.parametrize(
    "message",
    [
        control.Emulated("s", "{}\n{}"),
        control.Subscribe(user="ann", channel="a", info={"seat": 7}, data=[1], recover_since=(3, "e")),
        control.Subscribe(user="ann", channel="a", override=Override(presence=Switch(True))),
        control.Unsubscribe(user="", client="c", channel="", code=2000, reason="r"),
        control.Disconnect(user="ann", code=4000, reason="r", spared=("c1", "c2")),
        control.Refresh(user="ann", is_expired=False, expires_at=1.5),
        control.Question("n", "uid", "channels", "*"),
        control.Answer("n", {"a": [1]}),
    ],
)
def test_a_message_comes_as_it_was_sent(message: control.Message) -> None:
    """Every kind."""
    assert control.decode(control.encode(message)) == message


@pytest.mark.parametrize(
    "data", [b"", b"{", b"1", b'{"type":"novelty"}', b'{"type":"emulated","session":"\xff","data":""}', b"[" * 100_000]
)
def test_what_this_version_does_not_know_is_nothing(data: bytes) -> None:
    """A newer version, or somebody else who can write to Redis."""
    assert control.decode(data) is None


def test_fields_that_this_version_does_not_know_are_ignored() -> None:
    """A newer version may say more."""
    assert control.decode(b'{"type":"emulated","session":"s","data":"","more":1}') == control.Emulated("s", "")
