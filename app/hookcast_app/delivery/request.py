"""The request of one attempt. Pure: an endpoint is prepared once, then each attempt is a few concatenations.

Follows Standard Webhooks, "Webhook Scheme": headers webhook-id, webhook-timestamp, webhook-signature over exact bytes.
"""

import html
import json
import re
from base64 import b32encode, b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote, quote_plus

from hookcast_app.events import Stored, data_of
from hookcast_core.configuration import Entry
from hookcast_core.egress import Url, parse_url
from hookcast_core.signing import Key, github_signature, parse_secret, sign

REDACTED = b"[redacted]"
KEPT_BYTES = 1_024
"""Of an answer's body."""
_SHORTEST_SECRET = 8
_HIDDEN = re.compile(b"\xff+")
_ESCAPE = re.compile("%[0-9A-F]{2}")
_HTML_IN_JSON = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


@dataclass(frozen=True, slots=True)
class PreparedKey:
    """A signing key ready for use until `expires_at` (epoch ms), or for good."""

    key: Key
    expires_at: int | None

    def in_force(self, now_ms: int) -> bool:
        """Whether requests sent now are signed with it."""
        return self.expires_at is None or now_ms < self.expires_at


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One subscription's endpoint as of one configuration: everything about its requests that does not change."""

    uid: str
    url: Url
    headers: bytes
    keys: tuple[PreparedKey, ...]
    whole_event: bool
    github: bool
    timeout_ms: int
    secrets: tuple[bytes, ...] = field(repr=False)

    def redact(self, answer: bytes) -> str:
        """The first KiB of what a receiver said, without any secret of this endpoint that it may have sent back.

        A secret that begins within it is found as far as it is in `answer`. It is hidden first, byte for byte and by
        what no UTF-8 has, and cut then, so that no part of one is left.
        """
        for secret in self.secrets:
            answer = answer.replace(secret, b"\xff" * len(secret))
        return _HIDDEN.sub(REDACTED, answer[:KEPT_BYTES]).decode(errors="replace")


def prepare(entry: Entry, version: str) -> Endpoint:
    """Everything about an endpoint's requests that one configuration fixes. The entry has been validated."""
    lines = [("user-agent", f"Hookcast/{version}"), *entry.headers]
    url = parse_url(entry.url)
    return Endpoint(
        uid=entry.uid,
        url=url,
        headers="".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1"),
        keys=tuple(
            PreparedKey(parse_secret(key.secret.get_secret_value()), key.expires_at) for key in entry.signing_keys
        ),
        whole_event=entry.spec.format == "CloudEvents",
        github=entry.spec.signing.scheme == "GitHub",
        timeout_ms=entry.spec.delivery.timeout,
        secrets=_spellings(_secrets(entry, url)),
    )


def _secrets(entry: Entry, url: Url) -> Iterator[str]:
    """What a receiver may send back and readers of the attempt log may not see, and the parts that give it away."""
    for key in entry.signing_keys:
        text = key.secret.get_secret_value()
        yield from (text, text.partition("_")[2])
    for _, value in entry.headers:
        scheme, _, credentials = value.partition(" ")
        yield from (value, credentials)
        if scheme.lower() == "basic":
            pair = _pair(credentials)
            yield from (pair, pair.partition(":")[2])
    if entry.spec.endpoint.url_secret_ref is not None:
        yield from (entry.url, str(url), url.target, *url.target.split("?", 1))


def _pair(credentials: str) -> str:
    """The user and password of RFC 7617, section 2, or nothing."""
    try:
        return b64decode(credentials).decode()
    except (Base64Error, ValueError):
        return ""


def _spellings(secrets: Iterator[str]) -> tuple[bytes, ...]:
    """Each in the encodings that a receiver may use, and as it may be escaped; the longest first."""
    long_enough = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
    texts = {spelling for secret in long_enough for spelling in _escaped(secret)}
    found = {text.encode() for text in texts} | {text.encode("latin-1", "replace") for text in texts}
    return tuple(sorted(found, key=len, reverse=True))


def _escaped(text: str) -> Iterator[str]:
    """As it is, and as receivers write it into JSON (some escape slashes, some what is HTML's), HTML and URLs."""
    yield text
    for written in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield from (written, written.replace("/", "\\/"), written.translate(_HTML_IN_JSON))
    in_html = html.escape(text)
    yield from (in_html, html.escape(text, quote=False))
    yield in_html.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield from (encoded, _ESCAPE.sub(lambda match: match[0].lower(), encoded))


def message_id(uid: str, event: Stored) -> str:
    """The `webhook-id`: the same over retries and replays of this event to this subscription, and without dots."""
    digest = sha256(f"{uid}\0{event.source}\0{event.id}".encode()).digest()
    return "msg_" + b32encode(digest[:20])[:26].decode()  # 20 bytes are 32 characters, in pure Python


def content(endpoint: Endpoint, event: Stored, body: bytes) -> tuple[bytes, str]:
    """The exact bytes to send and their media type, empty where there is nothing to send."""
    return (body, "application/cloudevents+json") if endpoint.whole_event else data_of(event, body)


def request_headers(
    endpoint: Endpoint, event: Stored, delivery: str, attempt: int, now_ms: int, media_type: str, payload: bytes
) -> bytes:
    """The header lines of one attempt. All values are ours or were checked when the event was accepted."""
    webhook_id = message_id(endpoint.uid, event)
    seconds = now_ms // 1000
    signature = _signature(endpoint, webhook_id, seconds, now_ms, payload)
    content_type = f"content-type: {media_type}\r\n" if media_type else ""
    trace = f"traceparent: {event.traceparent}\r\n" if event.traceparent else ""
    return endpoint.headers + (
        f"{content_type}webhook-id: {webhook_id}\r\nwebhook-timestamp: {seconds}\r\n{signature}"
        f"x-hookcast-event: {event.type}\r\nx-hookcast-attempt: {attempt}\r\nx-hookcast-delivery: {delivery}\r\n"
        f"x-hookcast-hops: {event.hops + 1}\r\nx-correlation-id: {event.correlation_id}\r\n{trace}"
    ).encode("latin-1")


def _signature(endpoint: Endpoint, webhook_id: str, seconds: int, now_ms: int, payload: bytes) -> str:
    keys = [prepared.key for prepared in endpoint.keys if prepared.in_force(now_ms)]
    if endpoint.github:
        # GitHub's scheme knows one signature: the newest key's.
        return f"x-hub-signature-256: {github_signature(keys[0], payload)}\r\n" if keys else ""
    signatures = " ".join(sign(key, webhook_id, seconds, payload) for key in keys)
    return f"webhook-signature: {signatures}\r\n"
