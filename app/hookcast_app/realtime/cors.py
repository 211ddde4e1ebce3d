"""Which pages of other sites may read what the realtime endpoints answer (Fetch, 3.3 "HTTP extensions"). Pure."""

import re

from hookcast_app.realtime.handshake import Headers, header, is_allowed_origin, is_listed_origin, is_named_origin
from hookcast_app.settings import Settings

PREFLIGHT_SECONDS = 300
"""For how long a browser need not ask again."""
_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,512}")
"""Names of request headers, as browsers list them."""
_OWN_SITE = frozenset({None, "same-origin", "none"})

RawHeaders = list[tuple[bytes, bytes]]
"""As ASGI sends them."""


class Origins:
    """The origins of the settings; lives as long as the server."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = settings.allowed_origins
        self._has_cookie = settings.jwt_cookie is not None

    def may_ask(self, headers: Headers) -> bool:
        """Whether a request may come from there.

        As for WebSockets. A page can also make a browser send a GET without an Origin, as for an image; then Fetch
        Metadata says that it is another site's.
        """
        headers = list(headers)
        origin = header(headers, b"origin")
        if origin is None:
            return header(headers, b"sec-fetch-site") in _OWN_SITE
        return is_allowed_origin(origin, header(headers, b"host"), self._allowed)

    def answer_headers(self, headers: Headers) -> RawHeaders:
        """What lets a page read the answer: with cookies where its origin is named, and a cookie can be a token."""
        origin = header(headers, b"origin")
        if origin is None or not is_listed_origin(origin, self._allowed):
            return []
        told = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        if self._has_cookie and is_named_origin(origin, self._allowed):
            told.append((b"access-control-allow-credentials", b"true"))
        return told

    def preflight_headers(self, headers: Headers, methods: str) -> RawHeaders:
        """The answer to a browser that asks first; `methods` are those that the path takes."""
        headers = list(headers)
        told = [
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
            *self.answer_headers(headers),
        ]
        asked = header(headers, b"access-control-request-headers")
        if asked is not None and _NAMES.fullmatch(asked):
            told.append((b"access-control-allow-headers", asked.encode()))
        return told
