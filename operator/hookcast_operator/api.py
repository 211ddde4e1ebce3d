"""The API server: one set of HTTPS connections, which kopf uses as well, and the few verbs that kopf has not.

Everything is decoded JSON; a request either gives its answer or raises one of `errors`.
"""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import kopf
import structlog

from hookcast_operator.errors import AlreadyExists, ApiRefused, ApiUnavailable, Conflict, NotFound

PAGE = 500
"""Objects asked for at once in a list."""
LARGE = 65_536
"""Bytes of a request that are sent piece by piece, for the event loop's sake."""
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 2.0
"""Then a new attempt: the kernel waits longer each time before it asks again, and would miss a server that is back."""
TOKEN_SECONDS = 60.0
"""The kubelet renews a pod's token long before it ends; the file is read again this often."""
_TOO_MANY = 429
_GONE = 410
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

T = TypeVar("T")
Raw = dict[str, Any]
Count = Callable[[str, str], None]
"""Told each request's verb and code."""

_log = structlog.get_logger("hookcast.operator.api")


class Api:
    """Lives as long as the process; `open` and `close` it. `answered_at` is the monotonic time of the last answer."""

    def __init__(self, login: kopf.ConnectionInfo, count: Count) -> None:
        self._login = login
        self._count = count
        self._token_file = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
        self._token = login.token
        self._token_read = time.monotonic()
        self._connector: aiohttp.TCPConnector | None = None
        self._session: aiohttp.ClientSession | None = None
        self.answered_at = time.monotonic()

    async def __aenter__(self) -> Self:
        """Opens the session."""
        self._connector = aiohttp.TCPConnector(limit=100, ssl=self._login.as_ssl_context())
        self._session = self._new_session()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the session and its connections."""
        if self._session is not None:
            await self._session.close()
        if self._connector is not None:
            await self._connector.close()

    def for_kopf(self) -> kopf.AiohttpSession:
        """A session for kopf, which closes it at its end and after a 401, over the same connections, which stay."""
        return kopf.AiohttpSession(server=self._login.server, aiohttp_session=self._new_session())

    def _new_session(self) -> aiohttp.ClientSession:
        assert self._connector is not None, "the session is open"  # noqa: S101
        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers={"User-Agent": "hookcast-operator", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            middlewares=(self._with_credentials,),
            proxy=self._login.proxy_url,
        )

    async def get(self, path: str, **query: str) -> Raw:
        """One object."""
        return await self._request("GET", path, query=query)

    async def metadata(self, path: str) -> Raw:
        """One object's metadata, without its content."""
        return await self._request("GET", path, headers={"Accept": _METADATA_ONLY})

    async def list(self, path: str, **query: str) -> list[Raw]:
        """All objects of a collection, page by page; begun anew where the list changes too much to go on."""
        items: list[Raw] = []
        more = ""
        while True:
            try:
                page = await self._request("GET", path, query={**query, "limit": str(PAGE), **_continued(more)})
            except ApiRefused as error:
                if error.code != _GONE:
                    raise
                items, more = [], ""
                continue
            items += page["items"]
            more = page["metadata"].get("continue") or ""
            if not more:
                return items

    async def create(self, path: str, content: Raw) -> Raw:
        """Makes an object of a collection; AlreadyExists."""
        return await self._request("POST", path, content)

    async def replace(self, path: str, content: Raw) -> Raw:
        """Replaces an object: the version that its metadata names, if any; Conflict, NotFound."""
        return await self._request("PUT", path, content)

    async def merge(self, path: str, content: Raw) -> Raw:
        """Changes parts of an object (RFC 7396); NotFound."""
        return await self._request("PATCH", path, content, headers={"Content-Type": "application/merge-patch+json"})

    async def hints(self, path: str, seconds: int, **query: str) -> AsyncIterator[None]:
        """Yields when something of a collection changes, for that time at most; raises ApiUnavailable if it is cut."""
        query |= {"watch": "true", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=seconds + REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        assert self._session is not None, "the session is open"  # noqa: S101
        try:
            async with self._session.get(self._url(path), params=query, timeout=timeout) as response:
                if response.status >= _CLIENT_ERROR:
                    raise _refusal(response.status, await response.read())
                async for _ in response.content.iter_any():
                    yield
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiUnavailable(f"{type(error).__name__}: {error}") from error

    async def _request(
        self,
        verb: str,
        path: str,
        content: Raw | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Raw:
        assert self._session is not None, "the session is open"  # noqa: S101
        body = None if content is None else json.dumps(content, separators=(",", ":")).encode()
        # As a file, aiohttp sends what is large piece by piece.
        payload = io.BytesIO(body) if body is not None and len(body) > LARGE else body
        sent = {"Content-Type": "application/json"} | dict(headers or {}) if body is not None else headers
        try:
            async with self._session.request(
                verb, self._url(path), params=query, data=payload, headers=sent, allow_redirects=False
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiUnavailable(f"{verb} {path}: {type(error).__name__} {error}") from error
        if response.status >= _CLIENT_ERROR:
            raise _refusal(response.status, answer)
        try:
            decoded = json.loads(answer)
        except ValueError as error:
            raise ApiUnavailable(f"{verb} {path}: the answer is no JSON") from error
        if not isinstance(decoded, dict):
            raise ApiUnavailable(f"{verb} {path}: the answer is no object")
        return decoded

    def _url(self, path: str) -> str:
        return self._login.server.rstrip("/") + path

    async def _with_credentials(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Every request of the session, kopf's among them: with the token of now, and counted."""
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._fresh_token()}"
        verb = "WATCH" if request.url.query.get("watch") == "true" else request.method
        try:
            response = await handler(request)
        except (aiohttp.ClientError, TimeoutError, asyncio.CancelledError) as error:
            self._count(verb, type(error).__name__)
            raise
        self._count(verb, str(response.status))
        self.answered_at = time.monotonic()
        return response

    def _fresh_token(self) -> str | None:
        if self._token_file.exists() and time.monotonic() - self._token_read > TOKEN_SECONDS:
            self._token = self._token_file.read_text(encoding="utf-8").strip()
            self._token_read = time.monotonic()
        return self._token


def log_in() -> kopf.ConnectionInfo:
    """The service account's credentials in a pod, else those of kubectl. Raises kopf.LoginError without any."""
    settings = kopf.OperatorSettings()
    login = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if login is None:
        raise kopf.LoginError("there is neither a service account nor a kubeconfig")
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if host and port:
        # By address: with the cluster's DNS down the API server is still there.
        shown = f"[{host}]" if ":" in host else host
        return kopf.ConnectionInfo(server=f"https://{shown}:{port}", ca_path=login.ca_path, token=login.token)
    return login


async def persist(work: Callable[[], Awaitable[T]], seconds: float = 1.0) -> T:
    """Does `work`, again and again while the API server does not answer."""
    while True:
        try:
            return await work()
        except ApiUnavailable as error:
            _log.warning("the API server does not answer", problem=str(error))
            await asyncio.sleep(seconds)


def path_of(group: str, plural: str, namespace: str | None, name: str | None = None, part: str | None = None) -> str:
    """The path of a collection or object: `group` is `v1`, or `apps/v1`; `part` is a subresource."""
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return "/".join([f"{root}{inside}/{plural}", *(quote(piece, safe="") for piece in (name, part) if piece)])


def _continued(token: str) -> Mapping[str, str]:
    return {"continue": token} if token else {}


def _refusal(code: int, answer: bytes) -> ApiRefused | ApiUnavailable:
    try:
        status = json.loads(answer)
        message, reason = str(status["message"]), status.get("reason")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, reason = answer[:200].decode(errors="replace"), None
    if code == _TOO_MANY or code >= _SERVER_ERROR:
        return ApiUnavailable(f"{code}: {message}")
    kinds: Mapping[str | None, type[ApiRefused]] = {
        "NotFound": NotFound,
        "AlreadyExists": AlreadyExists,
        "Conflict": Conflict,
    }
    return kinds.get(reason, ApiRefused)(code, message)
