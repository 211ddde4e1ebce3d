"""The request of one attempt, byte for byte."""

import time
from base64 import b64encode
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from hookcast_app.delivery.request import content, message_id, prepare, request_headers
from hookcast_app.events import Event, Stored
from hookcast_app.events.encoding import stored, structured
from hookcast_core.configuration import Entry, SigningKey
from hookcast_core.subscription import Subscription

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
OLD_SECRET = "whsec_" + b64encode(b"o" * 32).decode()
NOW = 1_700_000_000_123


def entry(*keys: SigningKey, headers: tuple[tuple[str, str], ...] = (), **spec: object) -> Entry:
    return Entry(
        uid="u-1",
        generation=1,
        namespace="default",
        name="orders",
        source="files",
        spec=Subscription.model_validate(
            {"endpoint": {"url": "https://shop.example/hook"}, "events": {"types": ["*"]}, **spec}
        ),
        url="https://shop.example/hook",
        headers=headers,
        signing_keys=keys or (SigningKey(algorithm="HMAC", secret=SecretStr(SECRET)),),
    )


def event(**attributes: Any) -> tuple[Stored, bytes]:
    made = Event(id="7", source="/shop", type="order.created", time="t", data=b"1", hops=2, **attributes)
    body, data_at = structured(made)
    return stored(made, data_at, NOW, "corr-1"), body


def lines(headers: bytes) -> dict[str, str]:
    pairs = [line.split(": ", 1) for line in headers.decode("latin-1").split("\r\n")[:-1]]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_the_headers_are_those_of_the_contract() -> None:
    """Every header once, with this attempt's time and number; hops count on."""
    record, body = event(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    endpoint = prepare(entry(headers=(("X-Team", "shop"),)), "1.2.3")

    found = lines(request_headers(endpoint, record, "d-1", 3, NOW, "application/json", body))

    assert found.pop("webhook-signature").startswith("v1,")
    assert found == {
        "user-agent": "Hookcast/1.2.3",
        "X-Team": "shop",
        "content-type": "application/json",
        "webhook-id": message_id("u-1", record),
        "webhook-timestamp": "1700000000",
        "x-hookcast-event": "order.created",
        "x-hookcast-attempt": "3",
        "x-hookcast-delivery": "d-1",
        "x-hookcast-hops": "3",
        "x-correlation-id": "corr-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


def test_every_key_in_force_signs_and_expired_ones_do_not() -> None:
    """During a rotation receivers with either key accept; afterwards only the new one's signature is there."""
    keys = (
        SigningKey(algorithm="HMAC", secret=SecretStr(SECRET)),
        SigningKey(algorithm="HMAC", secret=SecretStr(OLD_SECRET), expires_at=NOW),
    )
    endpoint = prepare(entry(*keys), "1")
    record, body = event()

    during = lines(request_headers(endpoint, record, "d", 1, NOW - 1, "application/json", body))
    after = lines(request_headers(endpoint, record, "d", 1, NOW, "application/json", body))

    assert len(during["webhook-signature"].split(" ")) == 2
    assert len(after["webhook-signature"].split(" ")) == 1


def test_githubs_scheme_signs_with_the_newest_key() -> None:
    """One X-Hub-Signature-256 and no Standard Webhooks signature."""
    endpoint = prepare(entry(signing={"scheme": "GitHub"}), "1")
    record, body = event()

    found = lines(request_headers(endpoint, record, "d", 1, NOW, "application/json", body))

    assert found["x-hub-signature-256"].startswith("sha256=")
    assert "webhook-signature" not in found


def test_the_webhook_id_is_stable_and_has_no_dots() -> None:
    """The same event and subscription, the same id; any other, another."""
    record, _ = event()
    other = Stored(id="8", source="/shop", type="a", time="t", accepted_ms=0)

    assert message_id("u-1", record) == message_id("u-1", record)
    assert len({message_id("u-1", record), message_id("u-2", record), message_id("u-1", other)}) == 3
    assert message_id("u-1", record).startswith("msg_")
    assert len(message_id("u-1", record)) == 30
    assert "." not in message_id("u-1", record)


@pytest.mark.parametrize("form", ["CloudEvents", "Data"])
def test_what_is_signed_is_what_is_sent(form: str) -> None:
    """The stock verifier accepts the very bytes of the content."""
    endpoint = prepare(entry(format=form), "1")
    record, body = event()
    payload, media_type = content(endpoint, record, body)

    now = time.time_ns() // 1_000_000
    found = lines(request_headers(endpoint, record, "d", 1, now, media_type, payload))

    Webhook(SECRET).verify(payload, found)


def test_secrets_are_redacted_from_what_is_kept() -> None:
    """Signing keys and secret-looking header values that an endpoint sends back."""
    endpoint = prepare(entry(headers=(("Authorization", "Bearer top-secret-value"), ("X-Team", "shop"))), "1")

    assert endpoint.redact(f"you sent Bearer top-secret-value and {SECRET}, shop") == (
        "you sent [redacted] and [redacted], shop"
    )
