"""Keys that an identity provider publishes (RFC 7517): kept fresh, looked for again when a token names a new one."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from hookcast_app.auth.errors import TokenInvalid
from hookcast_app.auth.jws import Header
from hookcast_app.auth.key_set import NamedKey, read_jwk_set
from hookcast_app.auth.verification import VerificationKey
from hookcast_core.errors import Unavailable

Fetch = Callable[[], Awaitable[bytes]]
"""Gets the document as it is now, in bounded time. Raises Unavailable."""

MAX_KEYS = 64
REFRESH_SECONDS = 300.0
"""Between two looks that nobody asks for: so long may a key be used that its provider has withdrawn."""
PAUSE_SECONDS = 5.0
"""Between two looks at least, whatever tokens name; who comes with a new name in between waits for the next."""
PATIENCE_SECONDS = 9.0
"""How long a token waits for its key: less than a client has for connecting, more than a pause and a fetch."""

_log = structlog.get_logger("hookcast.auth")


class RemoteKeys:
    """Lives as long as the app, which has `run` in a task. What was read last is kept while the provider is away."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._refresh = refresh_seconds
        self._pause = pause_seconds
        self._patience = patience_seconds
        self._keys: list[NamedKey] = []
        self._problem: str | None = "they were not fetched yet"
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        """Set, and replaced, at the end of each look."""

    async def run(self) -> None:
        """Fetches at once, and from then on regularly and when asked, until cancelled."""
        while True:
            await self._look()
            self._wanted.clear()  # whoever wanted it has it now
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(self._pause)
            try:
                async with asyncio.timeout(self._refresh if self._problem is None else self._pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def key(self, header: Header) -> VerificationKey:
        """The key that a token names, waiting for another look at the provider only if it is not known.

        Raises TokenInvalid if there is none, Unavailable if the provider cannot be asked.
        """
        found = self._find(header)
        if found is None:
            await self._look_again()
            found = self._find(header)
        if found is not None:
            return found
        if self._problem is not None:
            raise Unavailable("the keys of tokens cannot be fetched now", retry_after=5)
        raise TokenInvalid("the token's key is not known here")

    def _find(self, header: Header) -> VerificationKey | None:
        """By `kid`; a token without one must leave no choice. A key for another algorithm is told by its check."""
        if header.kid is not None:
            named = [each.key for each in self._keys if each.kid == header.kid]
            return next((key for key in named if header.alg in key.algorithms), named[0] if named else None)
        fit = [each.key for each in self._keys if header.alg in each.key.algorithms]
        return fit[0] if len(fit) == 1 else None

    async def _look_again(self) -> None:
        self._wanted.set()
        try:
            async with asyncio.timeout(self._patience):
                await self._news.wait()
        except TimeoutError:
            raise Unavailable("the keys of tokens cannot be fetched now", retry_after=5) from None

    async def _look(self) -> None:
        before = self._problem
        try:
            self._keys, useless = read_jwk_set(await self._fetch(), MAX_KEYS)
        except (Unavailable, ValueError) as error:
            self._problem = str(error)
            if self._problem != before:
                _log.warning("token keys not fetched", reason=self._problem, keys=len(self._keys))
            return
        self._problem = None
        if before is not None:
            _log.info("token keys fetched", keys=len(self._keys), of_no_use=useless)
