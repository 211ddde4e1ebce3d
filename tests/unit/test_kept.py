"""What is kept by REST, as one process knows it, and long work in pieces."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.kept.models import Address, Kept, KeptSubscription, Value, entry_of, secrets_of
from hookcast_app.kept.pause import PIECE_SECONDS, Pause
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput
from hookcast_core.signing import generate_secret

UIDS, SECRETS = ("u1", "u2", "u3"), ("s1", "s2", "s3")


def kept_subscription(uid: str, name: str, secrets: tuple[str, ...]) -> KeptSubscription:
    headers = [{"name": "X-A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}} for secret in secrets]
    spec = {"endpoint": {"url": "https://shop.example", "headers": headers}, "events": {"types": ["*"]}}
    return KeptSubscription(uid, "default", name, 1, spec)


@st.composite
def some_changes(draw: st.DrawFn) -> dict[Address, Value | None]:
    changes: dict[Address, Value | None] = {}
    for uid in draw(st.lists(st.sampled_from(UIDS), unique=True)):
        secrets = draw(st.none() | st.lists(st.sampled_from(SECRETS), unique=True))
        changes["subscriptions", uid] = None if secrets is None else kept_subscription(uid, f"n{uid}", tuple(secrets))
    for name in draw(st.lists(st.sampled_from(SECRETS), unique=True)):
        changes["secrets", name] = draw(st.none() | st.fixed_dictionaries({"k": st.sampled_from("ab")}))
    return changes


@given(st.lists(some_changes(), max_size=6))
def test_what_was_changed_step_by_step_is_as_if_it_had_been_put_at_once(
    steps: list[dict[Address, Value | None]],
) -> None:
    """Also who has which name, and who names which secret; what was changed from stays as it was."""
    kept, everything = Kept(), dict[Address, Value | None]()
    for changes in steps:
        before, copy = kept, Kept(kept.subscriptions.copy(), kept.secrets.copy(), kept.uids.copy(), kept.users.copy())
        kept = kept.changed(changes)
        everything |= changes

        assert kept == Kept().changed({address: value for address, value in everything.items() if value is not None})
        assert before == copy
    for secret in SECRETS:
        using = {uid for uid, one in kept.subscriptions.items() if secret in secrets_of(one.spec)}
        assert kept.users.get(secret, frozenset()) == using


@pytest.mark.parametrize(
    "endpoint",
    [
        {"urlSecretRef": {"name": "wanted", "key": "k"}},
        {"url_secret_ref": {"name": "wanted", "key": "k"}},
        {"url": "https://a.example", "tls": {"caSecretRef": {"name": "wanted", "key": "k"}}},
        {"url": "https://a.example", "tls": {"clientCertificateSecretRef": {"name": "wanted"}}},
        {
            "url": "https://a.example",
            "headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": {"name": "wanted", "key": "k"}}}],
        },
        {
            "url": "https://a.example",
            "headers": [{"name": "X-A", "value_from": {"secret_key_ref": {"name": "wanted", "key": "k"}}}],
        },
    ],
)
def test_every_secret_that_is_read_is_known(endpoint: dict[str, Any]) -> None:
    """Where a subscription is resolved it asks for no other one."""
    spec = {
        "endpoint": endpoint,
        "events": {"types": ["*"]},
        "signing": {"keys": [{"algorithm": "HMAC", "secretRef": {"name": "keys", "key": "k"}}]},
    }
    asked: set[str] = set()

    class Asked(dict[str, Mapping[str, str]]):
        def get(self, name: str, default: object = None) -> Any:  # noqa: ARG002  as a mapping has it
            asked.add(name)
            return {"k": generate_secret() if name == "keys" else "https://a.example", "tls.crt": "x", "tls.key": "y"}

    with suppress(InvalidInput):  # the values are no certificates
        entry_of(KeptSubscription("u", "default", "n", 1, spec), Asked(), EgressPolicy([]))

    assert "wanted" in asked
    assert asked <= secrets_of(spec) == {"wanted", "keys"}


@pytest.mark.parametrize("spec", [None, [], {"Ref": 1}, {"aRef": {"name": 5}}, {"a": [{"bRef": {"key": "k"}}]}])
def test_a_specification_of_another_shape_names_no_secret(spec: object) -> None:
    """It is refused elsewhere."""
    assert secrets_of(spec) == set()


async def test_work_pauses_once_it_has_taken_its_time() -> None:
    """Others have their turn then, and not before."""
    now = 0.0
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    pause = Pause(lambda: now)
    for _ in range(100):
        await pause()
    assert turns == 0
    for _ in range(100):
        now += PIECE_SECONDS * 0.6
        await pause()
    assert turns == 50
    task.cancel()
