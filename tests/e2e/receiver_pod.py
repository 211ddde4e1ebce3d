"""What runs in the cluster as the tests' endpoint: it remembers requests, and answers as it is told. No dependencies.

`PUT /_behaviour` with `{"/path": {"status": 503, "delay": 0.5}}` says how requests to a path are answered (204 at once
otherwise); `GET /_requests?path=/path` gives what came to a path, headers and all, as JSON.
"""

import json
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

requests: list[dict[str, object]] = []
behaviour: dict[str, dict[str, float]] = {}
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = behaviour.get(urlsplit(self.path).path, {})
        time.sleep(found.get("delay", 0))
        with lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append(
                {"path": self.path, "headers": headers, "body": b64encode(body).decode(), "at": time.time()}
            )
        self.answer(int(found.get("status", 204)))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = parse_qs(url.query).get("path", [""])[0]
        with lock:
            found = [one for one in requests if one["path"] == path]
        self.answer(200, json.dumps(found).encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behaviour.clear()
        behaviour.update(json.loads(body))
        self.answer(204)

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: what came can be asked for."""


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("", 9000), Handler).serve_forever()
