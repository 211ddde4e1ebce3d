"""`helm test`: publishes an event to a channel that it listens on, and waits until it arrives. Standard library only.

With the value `test.webhook` it receives another one as a webhook.

Without a shared secret (`HOOKCAST_JWT_PUBLIC_KEY`) no connection token can be made: the event is read back instead.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

URL = os.environ["HOOKCAST_TEST_URL"]
PATIENCE = 60.0
CHANNEL = "hookcast-test"
ALGORITHMS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def api_key() -> str:
    """A key that may publish and read, of those that the app has."""
    keys = json.loads(os.environ["HOOKCAST_API_KEYS"])
    able = [key for key in keys if "admin" in key["scopes"] or {"events:write", "read"} <= set(key["scopes"])]
    return able[0]["key"] if able else sys.exit("no key in HOOKCAST_API_KEYS has the scopes events:write and read")


def token() -> str | None:
    """A JWT that is good for a minute, or None where there is no secret to sign it with."""
    accepted = os.environ.get("HOOKCAST_JWT_ALGORITHMS", "HS256").split(",")
    algorithm = next((name.strip() for name in accepted if name.strip() in ALGORITHMS), None)
    secret = os.environ.get("HOOKCAST_JWT_SECRET", "").removesuffix("\n")  # as the app takes it
    if not algorithm or not secret:
        return None
    claims = {"sub": "hookcast-test", "exp": int(time.time() + PATIENCE)}
    for claim, setting in (("aud", "HOOKCAST_JWT_AUDIENCE"), ("iss", "HOOKCAST_JWT_ISSUER")):
        if value := os.environ.get(setting):
            claims[claim] = value
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, claims)]
    signature = hmac.new(secret.encode(), ".".join(parts).encode(), ALGORITHMS[algorithm]).digest()
    return ".".join([*parts, encoded(signature)])


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def open_url(path: str, headers: dict[str, str], body: object = None):
    """The answer, once there is one: the release may only be starting."""
    data = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json", **headers})
            return urllib.request.urlopen(request, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                sys.exit(f"{path}: {error.code} {error.read().decode()}")
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{path}: {error}")
        time.sleep(1)


def hear(key: dict[str, str]) -> None:
    """Publishes an event and waits until it is on the channel, or stored where nobody can listen."""
    jwt = token()
    stream = jwt and open_url(f"/sse/{CHANNEL}", {"Authorization": f"Bearer {jwt}"})
    marker = uuid.uuid4().hex
    event = publish(key, marker, CHANNEL)
    if not stream:
        json.load(open_url(f"/api/v1/events/{event}", key))
        print("stored; not listened for: there is no HOOKCAST_JWT_SECRET to make a connection token with")
        return
    for line in stream:
        if line.startswith(b"data:") and marker.encode() in line:
            print(f"arrived on the channel {CHANNEL}")
            return
    sys.exit("the stream ended before the event arrived")


def receive(key: dict[str, str], port: int) -> None:
    """Publishes until one arrives as a signed webhook: the subscription may only be on its way to the server."""
    markers, arrived = [], threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            if self.headers["webhook-signature"] and any(marker in body for marker in markers):
                arrived.set()
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """What arrived is told below."""

    server = HTTPServer(("", port), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    while not arrived.wait(1):
        if time.monotonic() > deadline:
            sys.exit("no webhook arrived; kubectl get webhooksubscription and GET /api/v1/deliveries say why")
        markers.append(uuid.uuid4().hex)
        publish(key, markers[-1])
    print("arrived as a webhook")


def publish(key: dict[str, str], marker: str, channel: str | None = None) -> str:
    """The id of the event."""
    event = {"type": "hookcast-test.published", "data": {"marker": marker}} | ({"channel": channel} if channel else {})
    answer = json.load(open_url("/api/v1/events", key, event))
    print(f"published {answer['id']}")
    return answer["id"]


def main() -> None:
    key = {"X-API-Key": api_key()}
    hear(key)
    if port := os.environ.get("HOOKCAST_TEST_WEBHOOK"):
        receive(key, int(port))


main()
