"""An HTTP/1.1 answer, read from bytes: no I/O, and bounded whatever the other side sends.

`httptools` finds the messages' borders (RFC 9112); what counts as an answer, and how much of it is read, is decided
here.
"""

import httptools

MAX_HEADER_BYTES = 16_384
"""All that may come before the body, interim answers included."""
MAX_BODY_BYTES = 65_536
"""Of a longer body the rest is not read; its status counts all the same."""
MAX_WIRE_BYTES = 2 * MAX_BODY_BYTES
"""The whole answer as sent, which bounds chunk extensions, one-byte chunks and trailers too."""
HEAD_BYTES = 9_216
"""Kept of a body: 1 KiB to show, and the longest secret that may begin in it (8 KiB) and must be known to be hidden."""


class InvalidResponse(Exception):  # noqa: N818  says what came
    """What came is not an HTTP/1.1 answer to our request."""


class ResponseReader:
    """The answers that come on one connection, one after another; lives as long as the connection.

    `begin` before each request, then `feed` what comes until it returns True. `status`, `retry_after`, `head` and
    `keep_alive` hold from then to the next `begin`. Methods named on_… are what httptools calls.
    """

    __slots__ = (
        "_body",
        "_delimited",
        "_header_bytes",
        "_kept",
        "_parser",
        "_wire",
        "complete",
        "head",
        "keep_alive",
        "retry_after",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._delimited = False
        self.complete = True
        self.begin()

    def begin(self, kept: int = HEAD_BYTES) -> None:
        """Expect the answer to a next request, of whose body the first `kept` bytes are wanted."""
        self._kept = kept
        self.status = 0
        self.retry_after: str | None = None
        self.head = b""
        self.keep_alive = False
        self.complete = False
        self._body = 0
        self._wire = 0
        self._header_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Read on; True once the answer is complete, or cut at its bound. Raises InvalidResponse."""
        self._wire += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What follows a complete answer is not asked for: on_message_begin saw it, or it is not HTTP at all.
            if not self.complete:
                raise InvalidResponse("not an HTTP/1.1 answer") from None
            self.keep_alive = False
        self._check_head()
        if not self.complete and (self._body > MAX_BODY_BYTES or self._wire > MAX_WIRE_BYTES):
            self.complete = True
            self.keep_alive = False
        return self.complete

    def end(self) -> bool:
        """Say whether the end of the connection completes the answer (RFC 9112, section 6.3, case 8)."""
        self.keep_alive = False
        if self.status and not self._delimited:
            self.complete = True
        return self.complete

    def close(self) -> None:
        """Let go of the parser, which refers back to this object."""
        del self._parser

    def _check_head(self) -> None:
        if self._header_bytes > MAX_HEADER_BYTES or (not self.status and self._wire > MAX_HEADER_BYTES):
            raise InvalidResponse(f"more than {MAX_HEADER_BYTES} bytes of headers")
        if self.status and not 200 <= self.status <= 599:  # noqa: PLR2004  RFC 9110, section 15
            raise InvalidResponse(f"status {self.status}, which answers no request of ours")

    def on_message_begin(self) -> None:
        """Take the start of an answer, interim ones too."""
        if self.complete:
            self.keep_alive = False
        self._delimited = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line, or a trailer's."""
        if self.status:
            return
        self._header_bytes += len(name) + len(value) + 4
        name = name.lower()
        if name == b"content-length":
            self._delimited = True
        elif name == b"transfer-encoding":
            self._delimited = value.lower().endswith(b"chunked")
        elif name == b"retry-after":
            self.retry_after = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Take the end of a head: interim answers (1xx) are passed over, except 101, which we never ask for."""
        status = self._parser.get_status_code()
        if self.complete:
            return
        if 100 <= status < 200 and status != 101:  # noqa: PLR2004  RFC 9110, section 15.2
            self.retry_after = None
            return
        self.status = status
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, its chunks' framing removed."""
        if self.complete:
            return
        if self._body < self._kept:
            self.head += body[: self._kept - self._body]
        self._body += len(body)

    def on_message_complete(self) -> None:
        """Take the end of an answer, interim ones too."""
        if self.status:
            self.complete = True
