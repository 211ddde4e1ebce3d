"""The request of one attempt. Pure: an endpoint is prepared once, then each attempt is a few concatenations.

Follows Standard Webhooks, "Webhook Scheme": headers webhook-id, webhook-timestamp, webhook-signature over exact bytes.
"""

from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256

from hookcast_app.events import Stored, data_of
from hookcast_core.configuration import Entry
from hookcast_core.egress import Url, parse_url
from hookcast_core.signing import Key, github_signature, parse_secret, sign

REDACTED = "[redacted]"
_SHORTEST_SECRET = 8


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
    secrets: tuple[str, ...]

    def redact(self, text: str) -> str:
        """`text` without any secret of this endpoint that its receiver may have sent back."""
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        return text


def prepare(entry: Entry, version: str) -> Endpoint:
    """Everything about an endpoint's requests that one configuration fixes. The entry has been validated."""
    lines = [("user-agent", f"Hookcast/{version}"), *entry.headers]
    secrets = [value for _, value in entry.headers if len(value) >= _SHORTEST_SECRET]
    secrets += [key.secret.get_secret_value() for key in entry.signing_keys]
    return Endpoint(
        uid=entry.uid,
        url=parse_url(entry.url),
        headers="".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1"),
        keys=tuple(
            PreparedKey(parse_secret(key.secret.get_secret_value()), key.expires_at) for key in entry.signing_keys
        ),
        whole_event=entry.spec.format == "CloudEvents",
        github=entry.spec.signing.scheme == "GitHub",
        timeout_ms=entry.spec.delivery.timeout,
        secrets=tuple(secrets),
    )


def message_id(uid: str, event: Stored) -> str:
    """The `webhook-id`: the same over retries and replays of this event to this subscription, and without dots."""
    digest = sha256(f"{uid}\0{event.source}\0{event.id}".encode()).digest()
    return "msg_" + b32encode(digest[:20])[:26].decode()  # 20 bytes are 32 characters, in pure Python


def content(endpoint: Endpoint, event: Stored, body: bytes) -> tuple[bytes, str]:
    """The exact bytes to send and their media type."""
    return (body, "application/cloudevents+json") if endpoint.whole_event else data_of(event, body)


def request_headers(
    endpoint: Endpoint, event: Stored, delivery: str, attempt: int, now_ms: int, media_type: str, payload: bytes
) -> bytes:
    """The header lines of one attempt. All values are ours or were checked when the event was accepted."""
    webhook_id = message_id(endpoint.uid, event)
    seconds = now_ms // 1000
    signature = _signature(endpoint, webhook_id, seconds, now_ms, payload)
    trace = f"traceparent: {event.traceparent}\r\n" if event.traceparent else ""
    return endpoint.headers + (
        f"content-type: {media_type}\r\n"
        f"webhook-id: {webhook_id}\r\nwebhook-timestamp: {seconds}\r\n{signature}"
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
