"""Keeps the sealed configuration in Secrets: what pods start from, and what the operator itself goes on from.

Two sets of Secrets are written in turns; a manifest says which is in force. Every write names the version that it
replaces, so that a writer that was overtaken changes nothing and learns of it.
"""

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from hookcast_core.chunks import MAX_CHUNKS, SETS, Manifest, SetName, join, parse_manifest, split
from hookcast_core.document import MAX_BYTES, Document, make_document, parse_document
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.sealing import Sealer
from hookcast_core.versions import Version
from hookcast_operator.api import Api, Raw, path_of
from hookcast_operator.errors import AlreadyExists, ApiUnavailable, Conflict, NotFound

SECRET_TYPE = "hookcast.dev/configuration"  # noqa: S105  a type

_log = structlog.get_logger("hookcast.operator.store")


@dataclass(frozen=True, slots=True)
class Published:
    """A configuration that is stored. `token` is the sealed document, as pods take it."""

    document: Document
    token: bytes = field(repr=False)
    sealed_at: int

    @property
    def sequence(self) -> int:
        """Which one it is."""
        return self.document.sequence

    @property
    def version(self) -> Version:
        """As pods judge it by."""
        return Version(self.document.origin, self.sequence, self.document.revision, self.sealed_at)


class ConfigurationStore:
    """Lives as long as the operator leads. `may_write` raises NotLeading where it does not."""

    def __init__(
        self,
        api: Api,
        sealer: Sealer,
        *,
        release: str,
        namespace: str,
        may_write: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._sealer = sealer
        self._release = release
        self._namespace = namespace
        self._may_write = may_write
        self._clock = clock
        self._versions: dict[str, str] = {}
        self._origin = ""
        self._manifest: Manifest | None = None
        self._stored: Published | None = None
        self._highest = 0
        self._least = 0
        self._sealed_after = 0
        self._is_read = False

    @property
    def stored(self) -> Published | None:
        """What the manifest names, when it was last read or written; None if that cannot be used."""
        return self._stored

    def forget(self) -> None:
        """Has the next `publish` look at what is there, whatever is remembered."""
        self._is_read = False

    def surpass(self, version: Version) -> None:
        """Has the next `publish` store what pods take in place of that, also where the content is stored already."""
        if version.origin == self._origin:
            self._highest = max(self._highest, version.sequence)
        self._sealed_after = max(self._sealed_after, version.sealed_at)
        self._least = self._highest + 1

    async def read(self) -> Document | None:
        """What was in force last; None if there is nothing that can be opened with the keys of now.

        Where the manifest or what it names was damaged, that is what another set holds.
        """
        self._versions, self._origin, self._manifest, self._stored = {}, "", None, None
        manifest = await self._get(self._name())
        if manifest is not None:
            self._origin = manifest["metadata"]["uid"]
            self._manifest = parse_manifest(_decoded(manifest))
        in_force = self._manifest.set if self._manifest else None
        if self._manifest is not None:
            self._highest = max(self._highest, self._manifest.sequence)
            self._stored = await self._read_set(self._manifest.set)
        if self._stored is not None and not self._sealer.is_newest(self._stored.token):
            self._least = self._highest + 1  # sealed anew, before the older key is taken away
        found = [self._stored] if self._stored else [await self._read_set(name) for name in SETS if name != in_force]
        self._is_read = True
        return max((one.document for one in found if one), key=lambda document: document.sequence, default=None)

    async def publish(self, entries: Sequence[bytes], sources: Sequence[bytes]) -> Published:
        """Stores a configuration of these lines, unless it is stored already.

        Raises InvalidInput (CapacityExceeded); ApiUnavailable, Conflict and other refusals: then nothing is in force
        that was not, and the next call begins with what is there.
        """
        try:
            if not self._is_read:
                await self.read()
            return await self._publish(entries, sources)
        except InvalidInput:
            raise
        except BaseException:
            self._is_read = False
            raise

    async def fits(self, entries: Sequence[bytes], sources: Sequence[bytes]) -> bool:
        """Whether a configuration of these lines can be stored."""
        try:
            split((await asyncio.to_thread(self._sealed, make_document(0, self._origin, entries, sources))).token, 0)
        except InvalidInput:
            return False
        return True

    async def _publish(self, entries: Sequence[bytes], sources: Sequence[bytes]) -> Published:
        revision = make_document(0, "", entries, sources).revision
        stored = self._stored
        if stored is not None and stored.document.revision == revision and stored.sequence >= self._least:
            return stored
        if not self._origin:
            await self._put(self._name(), {})
        document = make_document(self._highest + 1, self._origin, entries, sources)
        published = await asyncio.to_thread(self._sealed, document)
        chunks = split(published.token, document.sequence)
        into = SETS[0] if self._manifest is None or self._manifest.set == SETS[1] else SETS[1]
        self._highest = document.sequence  # never used again, also if what follows breaks off
        await asyncio.gather(*(self._put(self._name(into, chunk.index), chunk.data()) for chunk in chunks))
        manifest = Manifest(into, document.sequence, chunks[0].digest, document.revision)
        await self._put(self._name(), manifest.data())
        self._manifest, self._stored = manifest, published
        return published

    def _sealed(self, document: Document) -> Published:
        content = document.to_bytes()
        if len(content) > MAX_BYTES:
            detail = f"the configuration has {len(content)} bytes; at most {MAX_BYTES} fit"
            raise InvalidInput(Reason.CAPACITY_EXCEEDED, None, detail)
        sealed_at = max(int(self._clock()), self._sealed_after + 1)
        return Published(document, self._sealer.seal(content, sealed_at), sealed_at)

    async def _read_set(self, name: SetName) -> Published | None:
        secrets = await asyncio.gather(*(self._get(self._name(name, index)) for index in range(MAX_CHUNKS)))
        if secrets[0] is None:
            return None
        joined = join([None if secret is None else _decoded(secret) for secret in secrets])
        if joined is None:
            _log.warning("a stored configuration is not whole", set=name)
            return None
        sequence, token = joined
        self._highest = max(self._highest, sequence)
        try:
            content, sealed_at = await asyncio.to_thread(self._sealer.open, token, MAX_BYTES)
            return Published(parse_document(content), token, sealed_at)
        except InvalidInput as error:
            _log.warning("a stored configuration cannot be used", set=name, problem=error.detail)
            return None

    async def _get(self, name: str) -> Raw | None:
        try:
            found = await self._api.get(self._path(name))
        except NotFound:
            return None
        self._versions[name] = found["metadata"]["resourceVersion"]
        return found

    async def _put(self, name: str, data: Mapping[str, bytes]) -> None:
        """Writes a Secret in the version that was seen last, and checks that it is what was written."""
        if name not in self._versions:
            await self._get(name)
        self._may_write()
        version = self._versions.get(name)
        secret = self._secret(name, data, version)
        try:
            if version is None:
                answer = await self._api.create(path_of("v1", "secrets", self._namespace), secret)
            else:
                answer = await self._api.replace(self._path(name), secret)
        except (AlreadyExists, NotFound) as error:
            raise Conflict(error.code, f"the Secret {name} was made or deleted by another meanwhile") from error
        if _decoded(answer) != data:
            raise ApiUnavailable(f"the Secret {name} does not hold what was written")
        self._versions[name] = answer["metadata"]["resourceVersion"]
        if name == self._name():
            self._origin = answer["metadata"]["uid"]

    def _secret(self, name: str, data: Mapping[str, bytes], version: str | None) -> Raw:
        labels = {
            "app.kubernetes.io/name": "hookcast",
            "app.kubernetes.io/instance": self._release,
            "app.kubernetes.io/component": "configuration",
            "app.kubernetes.io/managed-by": "hookcast-operator",
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": labels} | ({"resourceVersion": version} if version else {}),
            "type": SECRET_TYPE,
            "data": {key: b64encode(value).decode() for key, value in data.items()},
        }

    def _name(self, of: str | None = None, index: int = 0) -> str:
        return f"{self._release}-configuration" + (f"-{of}-{index}" if of else "")

    def _path(self, name: str) -> str:
        return path_of("v1", "secrets", self._namespace, name)


def _decoded(secret: Raw) -> dict[str, bytes]:
    return {key: b64decode(value) for key, value in (secret.get("data") or {}).items()}
