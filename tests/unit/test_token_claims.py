"""What tokens say of a client and of a subscription: Centrifugo's claims."""

import time
from typing import Any

import jwt
import pytest

from hookcast_app.auth import (
    Capability,
    Grant,
    Identity,
    Match,
    Permission,
    SubscribeOptions,
    TokenExpired,
    TokenInvalid,
    TokenVerifier,
)
from hookcast_app.auth.claims import MAX_PATTERNS, MAX_REGEXES, MAX_SUBS
from hookcast_app.auth.identity import Override, Switch
from hookcast_app.settings import Settings

SECRET = "0123456789abcdef" * 4
NOW = 1_000_000.0


def verifier(**changes: Any) -> TokenVerifier:
    return TokenVerifier(Settings(**{"jwt_secret": SECRET, **changes}), clock=lambda: NOW)


async def identity(**claims: Any) -> Identity:
    return await verifier().verify(jwt.encode({"sub": "ann", **claims}, SECRET))


async def grant(**claims: Any) -> Grant:
    token = jwt.encode({"sub": "ann", "channel": "a", **claims}, SECRET)
    return await verifier().verify_subscription(token, "a", "ann")


async def test_an_empty_sub_is_an_anonymous_user() -> None:
    """Somebody signed for one; the user is nobody, and what else the token says counts."""
    anonymous = await identity(sub="", channels=["a"])

    assert anonymous == Identity("", subs={"a": SubscribeOptions()})


async def test_channels_and_subs_are_one_map() -> None:
    """With the options of `subs` where both name a channel; what is not known of them is ignored."""
    override = {"presence": {"value": True}, "join_leave": {}, "novelty": 1}
    subs = {"b": {"info": [1], "data": {"x": None}, "override": override, "b64info": "e30="}}

    assert (await identity(channels=["a", "b", "a"], subs=subs)).subs == {
        "a": SubscribeOptions(),
        "b": SubscribeOptions(
            info=[1], data={"x": None}, override=Override(presence=Switch(True), join_leave=Switch())
        ),
    }
    assert (await identity(channels=None, subs=None, caps=None, info=None)) == Identity("ann")


async def test_the_first_capability_that_names_a_channel_decides() -> None:
    """As Centrifugo has it: what a later one allows does not count."""
    caps = [
        {"channels": ["news", "user_42"], "allow": ["sub"]},
        {"channels": ["user_42"], "allow": ["pub"]},
        {"channels": ["news:*"], "match": "wildcard", "allow": ["sub", "hst"]},
        {"channels": [r"^posts_[\d]+$"], "match": "regex", "allow": ["prs"]},
    ]
    ann = await identity(caps=caps)

    assert ann.caps[0] == Capability(("news", "user_42"), frozenset({Permission.SUBSCRIBE}), Match.EXACT)
    allowed = {
        (permission.value, channel)
        for permission in Permission
        for channel in ("news", "user_42", "news:a", "posts_7", "posts_x", "newsroom")
        if ann.may(permission, channel)
    }
    assert allowed == {("sub", "news"), ("sub", "user_42"), ("sub", "news:a"), ("hst", "news:a"), ("prs", "posts_7")}


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"channels": "a"}, "channels"),
        ({"channels": ["a b"]}, "channels or subs"),
        ({"subs": {"": {}}}, "channels or subs"),
        ({"subs": {"a": {"override": {"presence": True}}}}, "subs"),
        ({"channels": [f"a{number}" for number in range(MAX_SUBS + 1)]}, f"more than {MAX_SUBS}"),
        ({"caps": {}}, "caps"),
        ({"caps": [{"channels": ["a"]}]}, "caps"),
        ({"caps": [{"channels": ["a"], "allow": ["secret-word"]}]}, "caps"),
        ({"caps": [{"channels": ["a"], "allow": [], "match": "glob"}]}, "caps"),
        ({"caps": [{"channels": ["("], "allow": [], "match": "regex"}]}, "not a regular expression"),
        ({"caps": [{"channels": ["a{99}"], "allow": [], "match": "regex"}]}, "repeats too much"),
        ({"caps": [{"channels": ["a"] * (MAX_REGEXES + 1), "allow": [], "match": "regex"}]}, "regular expressions"),
        ({"caps": [{"channels": ["a"] * (MAX_PATTERNS + 1), "allow": []}]}, f"more than {MAX_PATTERNS}"),
        ({"expire_at": "never"}, "expire_at"),
        ({"channel": "a"}, "one for a subscription"),
        ({"channel": None}, "one for a subscription"),
        ({"nbf": NOW + 1}, "not valid yet"),
    ],
)
async def test_a_claim_that_does_not_hold_is_named(claims: dict[str, Any], told: str) -> None:
    """By its name, never by what it says; a subscription token is no connection token."""
    with pytest.raises(TokenInvalid, match=told) as refused:
        await identity(**claims)
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("claims", "expires_at"),
    [
        ({}, None),
        ({"exp": NOW + 9}, NOW + 9),
        ({"exp": NOW + 9, "expire_at": NOW + 99}, NOW + 99),
        ({"exp": NOW + 9, "expire_at": 0}, None),
        ({"expire_at": NOW + 99}, NOW + 99),
    ],
)
async def test_what_a_token_begins_ends_by_expire_at_or_exp(claims: Any, expires_at: float | None) -> None:
    """`expire_at` parts the end of the connection, or subscription, from that of its token; 0 is never."""
    assert (await identity(**claims)).expires_at == expires_at
    assert (await grant(**claims)).expires_at == expires_at


@pytest.mark.parametrize("claims", [{"exp": NOW}, {"exp": NOW - 1, "expire_at": 0}, {"expire_at": NOW - 1}])
async def test_what_has_ended_is_told_from_what_is_invalid(claims: Any) -> None:
    """For both kinds of tokens: the client fetches another one."""
    with pytest.raises(TokenExpired):
        await identity(**claims)
    with pytest.raises(TokenExpired):
        await grant(**claims)


async def test_a_subscription_token_grants_its_user_its_channel() -> None:
    """With what it says of the user there, and what else it allows."""
    assert await grant() == Grant("a", "ann")
    assert await grant(info={"x": 1}, allow=["pub", "prs"], override={}) == Grant(
        "a", "ann", info={"x": 1}, allow=frozenset({Permission.PUBLISH, Permission.PRESENCE})
    )
    anonymous = jwt.encode({"channel": "a"}, SECRET)
    assert (await verifier().verify_subscription(anonymous, "a", "")).user == ""


@pytest.mark.parametrize(
    "claims", [{"channel": "b"}, {"sub": "bob"}, {"sub": ""}, {"sub": None}, {"channel": None}, {"allow": ["x"]}]
)
async def test_a_subscription_token_is_good_for_nothing_else(claims: Any) -> None:
    """Another channel, another user, none of both."""
    with pytest.raises(TokenInvalid):
        await grant(**claims)


async def test_a_connection_token_is_no_subscription_token() -> None:
    """It names no channel."""
    with pytest.raises(TokenInvalid):
        await verifier().verify_subscription(jwt.encode({"sub": "ann"}, SECRET), "a", "ann")


async def test_audience_and_issuer_are_asked_of_subscription_tokens_too() -> None:
    """By the same settings."""
    strict = verifier(jwt_audience="us", jwt_issuer="idp")
    claims = {"sub": "ann", "channel": "a", "aud": ["us"], "iss": "idp"}

    assert (await strict.verify_subscription(jwt.encode(claims, SECRET), "a", "ann")).user == "ann"
    for change in ({"aud": "them"}, {"iss": "other"}):
        with pytest.raises(TokenInvalid):
            await strict.verify_subscription(jwt.encode(claims | change, SECRET), "a", "ann")


async def test_the_server_s_clock_is_the_one_that_counts() -> None:
    """A verifier without a clock of the test's has the system's."""
    with pytest.raises(TokenExpired):
        await TokenVerifier(Settings(jwt_secret=SECRET)).verify(
            jwt.encode({"sub": "a", "exp": time.time() - 1}, SECRET)
        )
