"""Where an identity provider publishes the keys of tokens: a URL of the settings, asked by the outgoing client."""

from hookcast_app.outgoing import AttemptFailed, HttpClient
from hookcast_core.egress import EgressPolicy, Url, parse_url
from hookcast_core.errors import InvalidInput, Unavailable

FETCH_MS = 3_000
"""For the whole answer; a client has 10 s to connect, and its token may wait for this."""
_HEADERS = b"accept: application/jwk-set+json, application/json\r\nuser-agent: Hookcast\r\n"
_OK = 200


class KeyServer:
    """Lives as long as the app.

    The URL is the operator's own word, not a user's: by https it may be at a private address, which is opened to this
    client alone. By plain http anybody on the way could put keys of their own in, so it must be among `egress_allow`.
    Raises InvalidInput for a URL that is none.
    """

    def __init__(self, url: str, egress_allow: tuple[str, ...]) -> None:
        self._url = parse_url(url, field="jwks_url")
        own = (_entry(self._url),) if self._url.scheme == "https" else ()
        self._client = HttpClient(EgressPolicy((*egress_allow, *own)), connections_per_endpoint=1)

    async def fetch(self) -> bytes:
        """The document as it is now. Raises Unavailable."""
        try:
            answer = await self._client.get(self._url, _HEADERS, timeout_ms=FETCH_MS)
        except (AttemptFailed, InvalidInput) as error:
            raise Unavailable(f"HOOKCAST_JWKS_URL: {error.reason}: {error.detail}") from error
        if answer.status != _OK:
            raise Unavailable(f"HOOKCAST_JWKS_URL: answered with status {answer.status}")
        return answer.head

    async def close(self) -> None:
        """Closes its connection."""
        await self._client.close()


def _entry(url: Url) -> str:
    """The URL's place, as EgressPolicy takes it."""
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
