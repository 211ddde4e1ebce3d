"""A stand-in for the API server: what the operator relies on, over HTTP, with faults on demand.

Real: versions over all kinds, generations, the status subresource, compare-and-swap, paged lists, watches that resume,
bookmarks, 410, merge patches, metadata alone, discovery, owners' garbage collection. Not there: TLS and authorisation,
validation and defaults of the definitions, admission, finalizers, namespaces that have to exist or end, protobuf,
field managers, selectors with sets. `tests/support/kubernetes_contract.py` holds it against a real one.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from tests.support.kubernetes_store import RESOURCES, Raw, Refused, Resource, Selector, Store

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One request; a watch's verb is WATCH. `code` is 0 before it is answered."""

    verb: str
    path: str
    code: int = 0
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: it waits, then it is cut off before or after it took effect, or is answered `code`."""

    delay: float = 0
    code: int = 0
    cut: str = ""
    hang: bool = False


Rule = Callable[[Call], Fault | None]


class ApiServer:
    """Runs in a thread of its own, so that tests of any event loop use it; `store` is touched through `do` alone."""

    def __init__(self) -> None:
        self.store = Store()
        self.calls: list[Call] = []
        self.rules: list[Rule] = []
        self.blind_to: Callable[[str, str], bool] = lambda _plural, _type: False
        """Which events no watch tells, by plural and type."""
        self.stalled: set[str] = set()
        """Plurals whose watches stay open and say nothing."""
        self.bookmark_seconds = 1.0
        self.port = 0
        self._pages: dict[str, tuple[int, list[Raw]]] = {}
        self._watches: dict[asyncio.Task[Any], str] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._runner: web.ServerRunner | None = None

    # For tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, path: Path) -> Path:
        """Writes a file that logs in here."""
        named: dict[str, Raw] = {"clusters": {"cluster": {"server": self.url}}, "users": {"user": {}}}
        named["contexts"] = {"context": {"cluster": "it", "user": "it"}}
        content: Raw = {key: [{"name": "it", **value}] for key, value in named.items()}
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "it", **content}))
        return path

    def do(self, work: Callable[[Store], T]) -> T:
        """Works on the store in its own thread, and tells the watches."""

        async def working() -> T:
            try:
                return work(self.store)
            finally:
                self._tell()

        return self._in_loop(working())

    def apply(self, raw: Raw) -> Raw:
        """Makes or replaces an object."""
        resource, namespace, name = _place(raw)

        def work(store: Store) -> Raw:
            if (resource.plural, namespace, name) not in store.objects:
                return store.create(resource, namespace, raw)
            content = {
                **raw,
                "metadata": {k: v for k, v in raw["metadata"].items() if k not in {"uid", "resourceVersion"}},
            }
            return store.replace(resource, namespace, name, content)

        return self.do(work)

    def write_status(self, raw: Raw, status: Raw) -> None:
        """Merges into an object's status, as its controller would."""
        resource, namespace, name = _place(raw)
        self.do(lambda store: store.merge(resource, namespace, name, {"status": status}, "status"))

    def get(self, raw: Raw) -> Raw | None:
        """The object of that kind and name, as it is now."""
        resource, namespace, name = _place(raw)
        return self.do(lambda store: store.objects.get((resource.plural, namespace, name)))

    def delete(self, raw: Raw) -> None:
        resource, namespace, name = _place(raw)
        self.do(lambda store: store.delete(resource, namespace, name))

    def all(self, plural: str) -> list[Raw]:
        resource = next(one for one in RESOURCES if one.plural == plural)
        return self.do(lambda store: store.select(resource, Selector()))

    def forget(self) -> None:
        """No watch and no list can go on from what was: 410."""

        def work(store: Store) -> None:
            store.floor = store.version
            store.history.clear()
            self._pages.clear()

        self.do(work)

    def cut_watches(self, *plurals: str) -> None:
        """Ends the open watches of these, or all."""

        async def cutting() -> None:
            for task, plural in self._watches.items():
                if not plurals or plural in plurals:
                    task.cancel()

        self._in_loop(cutting())

    def count(self, since: int = 0) -> Counter[str]:
        """Requests by verb since a number of calls; `len(calls)` gives that of now."""
        return Counter(call.verb for call in self.calls[since:])

    def down(self) -> None:
        """Refuses connections, and cuts those that are open."""
        self._in_loop(self._close())

    def up(self) -> None:
        """Listens again, on the same port."""
        self._in_loop(self._open())

    # The server

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        for task in self._watches:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        verb = "WATCH" if request.query.get("watch") in {"true", "1"} else request.method
        call = Call(verb, request.path, body=await request.content.read())
        fault = next((found for rule in self.rules if (found := rule(call)) is not None), Fault())
        if fault.hang:
            await asyncio.sleep(3_600)
        await asyncio.sleep(fault.delay)
        if fault.cut == "before":
            return self._cut(request, call)
        try:
            _raise(fault)
            if verb == "WATCH":
                self._log(call, 200)
                return await self._watch(request)
            answer, code = self._answer(request, call)
        except Refused as refused:
            answer, code = refused.status, refused.code
        if fault.cut == "after":
            return self._cut(request, call)
        self._log(call, code)
        return web.json_response(answer, status=code, headers={"Retry-After": "1"} if code == 429 else None)

    def _log(self, call: Call, code: int) -> None:
        self.calls.append(Call(call.verb, call.path, code, call.body))

    def _cut(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        self._log(call, -1)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _answer(self, request: web.BaseRequest, call: Call) -> tuple[Raw, int]:
        parts = request.path.strip("/").split("/")
        if (found := _discovery(parts)) is not None:
            return found, 200
        resource, namespace, name, part = _parse(parts)
        if call.verb == "GET":
            if name is None:
                return self._list(resource, namespace, request), 200
            raw = self.store.get(resource, namespace, name)
            if "as=PartialObjectMetadata" in request.headers.get("Accept", ""):
                raw = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": raw["metadata"]}
            return raw, 200
        if call.verb == "PATCH" and "merge-patch" not in request.headers.get("Content-Type", ""):
            raise Refused(415, "UnsupportedMediaType", "only merge patches")
        try:
            return self._change(call, resource, namespace, name, part), 201 if call.verb == "POST" else 200
        finally:
            self._tell()

    def _change(self, call: Call, resource: Resource, namespace: str | None, name: str | None, part: str | None) -> Raw:
        body = json.loads(call.body or b"{}")
        match call.verb:
            case "POST" if name is None:
                return self.store.create(resource, namespace, body)
            case "PUT" if name is not None:
                return self.store.replace(resource, namespace, name, body)
            case "PATCH" if name is not None:
                return self.store.merge(resource, namespace, name, body, part)
            case "DELETE" if name is not None:
                return self.store.delete(resource, namespace, name)
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _list(self, resource: Resource, namespace: str | None, request: web.BaseRequest) -> Raw:
        query = request.query
        if token := query.get("continue"):
            if token not in self._pages:
                raise Refused(410, "Expired", "the provided continue parameter is too old")
            version, rest = self._pages[token]
        else:
            version, rest = self.store.version, self.store.select(resource, _selector(namespace, request))
        limit = int(query.get("limit") or 0) or len(rest)
        page, rest = rest[:limit], rest[limit:]
        metadata: Raw = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"{version}-{len(self._pages)}"
            self._pages[metadata["continue"]] = version, rest
        return {"apiVersion": resource.api_version, "kind": f"{resource.kind}List", "metadata": metadata, "items": page}

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        resource, namespace, *_ = _parse(request.path.strip("/").split("/"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watches[task] = resource.plural
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds") or 3_600)):
                await self._forward(response, resource, namespace, request)
            await response.write_eof()
        except TimeoutError:
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):  # whoever watched went, or a test cut it
            if request.transport is not None:
                request.transport.abort()
        finally:
            del self._watches[task]
        return response

    async def _forward(  # noqa: C901  two nested functions of one stream
        self, response: web.StreamResponse, resource: Resource, namespace: str | None, request: web.BaseRequest
    ) -> None:
        async def send(kind: str, found: Raw) -> None:
            if not self.blind_to(resource.plural, kind):
                await response.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")

        selector = _selector(namespace, request)
        version = int(request.query.get("resourceVersion") or 0)
        if not version:
            version = self.store.version
            for found in self.store.select(resource, selector):
                await send("ADDED", found)
        while True:
            changed = self._changed
            try:
                changes = list(self.store.changes_since(version))
            except Refused as refused:
                await send("ERROR", refused.status)
                return
            while resource.plural in self.stalled:
                await asyncio.sleep(0.05)
            for change in changes:
                version = change.version
                was, is_now = selector.selects(change.before), selector.selects(change.after)
                kind = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((was, is_now))
                if change.resource == resource and kind is not None:
                    await send(kind, change.at)
            try:
                await asyncio.wait_for(changed.wait(), self.bookmark_seconds)
            except TimeoutError:
                bookmark = {"resourceVersion": str(version)}
                await send(
                    "BOOKMARK", {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": bookmark}
                )


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """A stand-in on a free port of the loopback interface."""
    server = ApiServer()
    thread = threading.Thread(target=server._loop.run_forever, name="API server", daemon=True)
    thread.start()
    try:
        server.up()
        yield server
        server.down()
    finally:
        server._loop.call_soon_threadsafe(server._loop.stop)
        thread.join(10)
        server._loop.close()


def _raise(fault: Fault) -> None:
    if fault.code:
        raise Refused(fault.code, "Conflict" if fault.code == 409 else "Made up", "a fault that a test asked for")


def _place(raw: Raw) -> tuple[Resource, str | None, str]:
    resource = next(one for one in RESOURCES if one.kind == raw["kind"])
    return resource, raw["metadata"].get("namespace") if resource.namespaced else None, raw["metadata"]["name"]


def _selector(namespace: str | None, request: web.BaseRequest) -> Selector:
    return Selector(namespace, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))


def _parse(parts: list[str]) -> tuple[Resource, str | None, str | None, str | None]:
    """Resource, namespace, name and subresource of a path."""
    version = parts[1] if parts[0] == "api" else "/".join(parts[1:3])
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    plural, name, part = (*rest, None, None, None)[:3]
    for resource in RESOURCES:
        if (resource.api_version, resource.plural) == (version, plural):
            return resource, namespace, name, part
    raise Refused(404, "NotFound", "the server could not find the requested resource")


def _discovery(parts: list[str]) -> Raw | None:
    groups = sorted({(one.group, one.version) for one in RESOURCES if one.group})
    match parts:
        case ["version"]:
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "groups": [_group(*one) for one in groups]}
        case ["api", version] | ["apis", _, version]:
            group = parts[1] if parts[0] == "apis" else ""
            found = [one for one in RESOURCES if (one.group, one.version) == (group, version)]
            if not found:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            return {"kind": "APIResourceList", "resources": [each for one in found for each in _described(one)]}
    return None


def _group(group: str, version: str) -> Raw:
    found = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [found], "preferredVersion": found}


def _described(one: Resource) -> list[Raw]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    found: Raw = {"name": one.plural, "singularName": one.kind.lower(), "namespaced": one.namespaced, "kind": one.kind}
    more = [found | {"name": f"{one.plural}/status", "verbs": ["get", "patch", "update"]}] if one.has_status else []
    return [found | {"verbs": verbs}, *more]
