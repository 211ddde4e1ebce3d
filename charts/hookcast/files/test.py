"""`helm test`: listens on a channel, publishes an event to it and waits until it arrives. Standard library only.

Without a shared secret (`HOOKCAST_JWT_PUBLIC_KEY`) no connection token can be made: the event is read back instead.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus

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
    secret = os.environ.get("HOOKCAST_JWT_SECRET")
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


def main() -> None:
    key = {"X-API-Key": api_key()}
    jwt = token()
    marker = uuid.uuid4().hex
    stream = jwt and open_url(f"/sse/{CHANNEL}", {"Authorization": f"Bearer {jwt}"})
    event = {"type": "hookcast-test.published", "channel": CHANNEL, "data": {"marker": marker}}
    answer = json.load(open_url("/api/v1/events", key, event))
    print(f"published {answer['id']}")
    if not stream:
        json.load(open_url(f"/api/v1/events/{answer['id']}", key))
        print("stored; not listened for: there is no HOOKCAST_JWT_SECRET to make a connection token with")
        return
    for line in stream:
        if line.startswith(b"data:") and marker.encode() in line:
            print(f"arrived on the channel {CHANNEL}")
            return
    sys.exit("the stream ended before the event arrived")


main()
