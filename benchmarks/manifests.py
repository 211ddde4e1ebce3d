"""Subscriptions of a benchmark as manifest files, all signed with one key."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

SECRET = f"whsec_{b64encode(b'signing key of the benchmark 012').decode()}"
"""What their webhooks are signed with."""
DOCUMENTS_A_FILE = 1_000
"""Keeps a file below the mebibyte that is taken."""
_SECRET_DOCUMENT = (
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: signing\n  labels: {hookcast.dev/allow: 'true'}\n"
    f"stringData: {{secret: {SECRET}}}\n"
)


def subscription(name: str, url: str, event_type: str, *, in_flight: int = 16, expression: str = "") -> str:
    """A document: a subscription to one event type, with a filter or without."""
    condition = f"\n    filter: {expression}" if expression else ""
    return (
        "apiVersion: hookcast.dev/v1alpha1\nkind: WebhookSubscription\n"
        f"metadata: {{name: {name}}}\n"
        f"spec:\n  endpoint: {{url: '{url}'}}\n  events:\n    types: [{event_type}]{condition}\n"
        "  signing: {keys: [{algorithm: HMAC, secretRef: {name: signing, key: secret}}]}\n"
        f"  delivery: {{maxInFlight: {in_flight}}}\n"
    )


def write(directory: str, subscriptions: Sequence[str]) -> None:
    """Writes the documents, and the key, to files of a directory."""
    for first in range(0, len(subscriptions), DOCUMENTS_A_FILE):
        documents = subscriptions[first : first + DOCUMENTS_A_FILE]
        Path(directory, f"{first:06}.yaml").write_text("---\n".join(documents))
    Path(directory, "signing.yaml").write_text(_SECRET_DOCUMENT)
