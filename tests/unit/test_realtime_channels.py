"""Names of channels, and who may do what on them."""

import pytest

from hookcast_app.auth.tokens import ANONYMOUS, Identity
from hookcast_app.realtime.channels import ChannelRules, is_channel_name, users_of
from hookcast_app.settings import ChannelOptions

ANN = Identity("ann")


@pytest.mark.parametrize("name", ["a", "chat:lobby", "a.b-c_d:e@f", "user:7#7", "a#b,c", "#a", "a#b#c,d", "x" * 255])
def test_allowed_names(name: str) -> None:
    """Letters, digits and `_-.:@#`, and `,` after a `#`."""
    assert is_channel_name(name)


@pytest.mark.parametrize("name", ["", "x" * 256, "a,b", "a b", "a\n", "ä", "٣", 'a"', "a/b", "a\\", "a\x00", "a?"])
def test_refused_names(name: str) -> None:
    """Nothing that would have to be escaped anywhere: names are put into frames and Redis channels as they are."""
    assert not is_channel_name(name)


@pytest.mark.parametrize(
    ("channel", "users"),
    [
        ("a", None),
        ("a#ann", {"ann"}),
        ("a#ann,bob", {"ann", "bob"}),
        ("a#x#bob", {"bob"}),
        ("a#", set()),
        ("a#,", set()),
    ],
)
def test_the_last_hash_limits_a_channel_to_users(channel: str, users: set[str] | None) -> None:
    """No hash is for everybody; a hash with nobody after it is for nobody."""
    assert users_of(channel) == users


def test_namespaces_inherit_the_defaults_that_they_do_not_set() -> None:
    """`""` is the default for all channels, also those without a namespace."""
    rules = ChannelRules(
        {"": ChannelOptions(subscribe="anyone", max_subscribers=5), "chat": ChannelOptions(publish="authenticated")}
    )

    assert rules.options("chat:a") == ChannelOptions(subscribe="anyone", max_subscribers=5, publish="authenticated")
    assert rules.options("chat") == rules.options("other:a") == ChannelOptions(subscribe="anyone", max_subscribers=5)


def test_without_settings_only_authenticated_clients_may_listen_and_nobody_publishes() -> None:
    """The defaults are closed."""
    rules = ChannelRules({})

    assert rules.may_subscribe(ANN, "a")
    assert not rules.may_subscribe(ANONYMOUS, "a")
    assert not rules.may_publish(ANN, "a", subscribed=True)


def test_limited_channels_are_for_their_users_alone() -> None:
    """Whatever the namespace allows; an anonymous client is nobody, not the user without a name."""
    rules = ChannelRules({"": ChannelOptions(subscribe="anyone", publish="subscribers")})

    assert rules.may_subscribe(ANN, "a#ann")
    for channel in ("a#bob", "a#", "a#,"):
        assert not rules.may_subscribe(ANN, channel)
        assert not rules.may_subscribe(ANONYMOUS, channel)
        assert not rules.may_publish(ANN, channel, subscribed=True)


@pytest.mark.parametrize(
    ("publish", "identity", "subscribed", "allowed"),
    [
        ("nobody", ANN, True, False),
        ("subscribers", ANN, True, True),
        ("subscribers", ANN, False, False),
        ("subscribers", ANONYMOUS, True, True),
        ("authenticated", ANN, False, True),
        ("authenticated", ANONYMOUS, True, False),
    ],
)
def test_publishing(publish: str, identity: Identity, subscribed: bool, allowed: bool) -> None:  # noqa: FBT001
    """Each policy admits exactly whom it names."""
    rules = ChannelRules({"": ChannelOptions.model_validate({"subscribe": "anyone", "publish": publish})})

    assert rules.may_publish(identity, "a", subscribed=subscribed) is allowed
