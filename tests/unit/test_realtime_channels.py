"""Names of channels, and who may do what on them."""

import pytest

from hookcast_app.auth import ANONYMOUS, Capability, Grant, Identity, Permission
from hookcast_app.realtime.channels import ChannelRules, users_of
from hookcast_app.settings import ChannelOptions
from hookcast_core.channels import is_channel_name

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


def capable(channel: str, *allow: Permission, user: str = "ann") -> Identity:
    return Identity(user, caps=(Capability((channel,), frozenset(allow)),))


def test_token_namespaces_want_a_token_for_each_subscription() -> None:
    """A user alone is not enough; a grant, or a capability of the connection's token, is."""
    rules = ChannelRules({"deals": ChannelOptions(subscribe="token")})

    assert not rules.may_subscribe(ANN, "deals:a")
    assert rules.may_subscribe(ANN, "deals:a", Grant("deals:a", "ann"))
    assert not rules.may_subscribe(ANN, "deals:a", Grant("deals:b", "ann"))
    assert not rules.may_subscribe(ANN, "deals:a", Grant("deals:a", "bob"))
    assert rules.may_subscribe(ANONYMOUS, "deals:a", Grant("deals:a", ""))
    assert rules.may_subscribe(capable("deals:a", Permission.SUBSCRIBE), "deals:a")
    assert not rules.may_subscribe(capable("deals:b", Permission.SUBSCRIBE), "deals:a")
    assert not rules.may_subscribe(capable("deals:a", Permission.PUBLISH), "deals:a")


def test_tokens_open_what_a_namespace_leaves_closed() -> None:
    """They add to its options, and never take from them."""
    rules = ChannelRules({})
    publisher, grant = capable("a", Permission.PUBLISH), Grant("a", "ann", allow=frozenset({Permission.PUBLISH}))

    assert rules.may_subscribe(capable("a", Permission.SUBSCRIBE, user=""), "a")
    assert rules.may_publish(publisher, "a", subscribed=False)
    assert rules.may_publish(ANN, "a", subscribed=True, grant=grant)
    assert not rules.may_publish(ANN, "a", subscribed=True, grant=Grant("a", "ann"))
    assert not rules.may_publish(ANN, "b", subscribed=True, grant=grant)
    assert rules.may_subscribe(publisher, "a")


def test_no_token_opens_a_channel_of_other_users() -> None:
    """What the name says stands above what a token says."""
    rules = ChannelRules({"": ChannelOptions(publish="subscribers")})
    everything = capable("a#bob", *Permission)
    grant = Grant("a#bob", "ann", allow=frozenset(Permission))

    for identity in (everything, ANN):
        assert not rules.may_subscribe(identity, "a#bob", grant)
        assert not rules.may_publish(identity, "a#bob", subscribed=True, grant=grant)
        assert not rules.may_read_presence(identity, "a#bob", subscribed=True, grant=grant)
        assert not rules.may_read_history(identity, "a#bob", subscribed=True, grant=grant)


@pytest.mark.parametrize("permission", [Permission.PRESENCE, Permission.HISTORY])
def test_subscribers_and_those_with_a_token_for_it_may_read(permission: Permission) -> None:
    """Presence and history, each by its own permission."""
    rules = ChannelRules({})
    may = {Permission.PRESENCE: rules.may_read_presence, Permission.HISTORY: rules.may_read_history}
    other = Permission.HISTORY if permission is Permission.PRESENCE else Permission.PRESENCE

    assert may[permission](ANN, "a", subscribed=True)
    assert not may[permission](ANN, "a", subscribed=False)
    assert may[permission](capable("a", permission), "a", subscribed=False)
    assert may[permission](ANN, "a", subscribed=False, grant=Grant("a", "ann", allow=frozenset({permission})))
    assert not may[other](capable("a", permission), "a", subscribed=False)
