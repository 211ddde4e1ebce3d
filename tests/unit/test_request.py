"""The request of one attempt, byte for byte."""

import html
import json
import re
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from hookcast_app.delivery.request import KEPT_BYTES, content, message_id, prepare, request_headers
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


def test_no_data_has_no_media_type() -> None:
    """With `format: Data` an event without data is an empty body, and says nothing of it."""
    made = Event(id="7", source="/shop", type="order.created", time="t")
    structured_form, data_at = structured(made)
    record = stored(made, data_at, NOW, "corr-1")
    endpoint = prepare(entry(format="Data"), "1")

    payload, media_type = content(endpoint, record, structured_form)

    assert payload == b""
    assert "content-type" not in lines(request_headers(endpoint, record, "d", 1, NOW, media_type, payload))


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


BASIC = b64encode("shop:päss-wörd".encode()).decode()
ODD = 'top/"secret" <&é+ value'
CAPABILITY = "https://hooks.example/services/T012/B345?key=abc/def"


def secret_url(url: str) -> Entry:
    """An entry whose URL comes from a Secret."""
    spec = {"endpoint": {"urlSecretRef": {"name": "a", "key": "url"}}, "events": {"types": ["*"]}}
    return entry().model_copy(update={"url": url, "spec": Subscription.model_validate(spec)})


@pytest.mark.parametrize(
    ("endpoint", "said", "kept"),
    [
        (entry(headers=(("X-Key", "top-secret-value"), ("X-Team", "shop"))), "top-secret-value of shop", "# of shop"),
        (entry(headers=(("Authorization", "Bearer top-secret"),)), "Bearer top-secret", "#"),
        (entry(headers=(("Authorization", "Bearer top-secret"),)), 'got "top-secret"', 'got "#"'),
        (entry(headers=(("Authorization", "Bearer top/secret"),)), '{"got":"top\\/secret"}', '{"got":"#"}'),
        (entry(headers=(("X-Key", ODD),)), json.dumps({"got": ODD}), '{"got": "#"}'),
        (entry(headers=(("X-Key", ODD),)), json.dumps({"got": ODD}, ensure_ascii=False), '{"got": "#"}'),
        (entry(headers=(("X-Key", ODD),)), json.dumps(ODD).replace("/", "\\/"), '"#"'),
        (entry(headers=(("X-Key", ODD),)), json.dumps(ODD).replace("<", "\\u003c").replace("&", "\\u0026"), '"#"'),
        (entry(headers=(("X-Key", ODD),)), f"{html.escape(ODD)}<br>{html.escape(ODD, quote=False)}", "#<br>#"),
        (entry(headers=(("X-Key", ODD),)), html.escape(ODD).replace("&quot;", "&#34;"), "#"),
        (entry(headers=(("X-Key", ODD),)), f"?a={quote(ODD, safe='')}&b={quote_plus(ODD)}", "?a=#&b=#"),
        (entry(headers=(("X-Key", ODD),)), re.sub("%..", lambda escape: escape[0].lower(), quote(ODD)), "#"),
        (entry(headers=(("Authorization", f"Basic {BASIC}"),)), f"{BASIC}: shop:päss-wörd, päss-wörd", "#: #, #"),
        (entry(headers=(("Authorization", "Basic no-base-64!"),)), "no-base-64!", "#"),
        (entry(headers=(("X-Key", "päss-wörd"),)), "päss-wörd".encode("latin-1"), "#"),
        (entry(), f"{SECRET} and {SECRET.removeprefix('whsec_')}", "# and #"),
        (entry(), "https://shop.example/hook", "https://shop.example/hook"),
        (secret_url(CAPABILITY), f"no {CAPABILITY}", "no #"),
        (secret_url(CAPABILITY), "POST /services/T012/B345?key=abc/def", "POST #"),
        (secret_url(CAPABILITY), "no route /services/T012/B345, query key=abc/def", "no route #, query #"),
        (secret_url(CAPABILITY), "\\/services\\/T012\\/B345", "#"),
        (secret_url("https://hooks.example/hooks/é-secret"), "/hooks/%C3%A9-secret", "#"),
    ],
)
def test_no_secret_of_an_endpoint_is_kept_of_its_answer(endpoint: Entry, said: str | bytes, kept: str) -> None:
    """Neither keys, header values and what they are made of, nor a URL from a Secret or a part of it."""
    said = said.encode() if isinstance(said, str) else said

    assert prepare(endpoint, "1").redact(said) == kept.replace("#", "[redacted]")


def test_a_secret_that_is_cut_is_hidden_whole() -> None:
    """1 KiB of an answer is kept; of what begins in it and ends behind it nothing is shown, however often it comes."""
    endpoint = prepare(entry(headers=(("Authorization", "Bearer " + "s" * 4_000),)), "1")

    said = b"x" * (KEPT_BYTES - 100) + b"s" * 4_000 + b"y"

    assert endpoint.redact(said) == "x" * (KEPT_BYTES - 100) + "[redacted]"
    assert endpoint.redact((b"s" * 4_000 + b"x") * 2) == "[redacted]"
    assert endpoint.redact(b"y" * 2_000) == "y" * KEPT_BYTES
