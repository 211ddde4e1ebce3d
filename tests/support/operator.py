"""What an operator does, as far as the app can tell: documents of subscriptions, sealed, mounted, pushed."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from hookcast_core.chunks import Manifest, SetName, split
from hookcast_core.configuration import Entry, SourceEntry
from hookcast_core.document import Document, encode_line, make_document
from hookcast_core.sealing import Sealer

INTERNAL_KEY = Fernet.generate_key().decode()
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def entry(uid: str, url: str, generation: int = 1, **spec: Any) -> Entry:
    """A subscription to `order.*`, or what `spec` says."""
    content = {"endpoint": {"url": url}, "events": {"types": ["order.*"]}, **spec}
    return Entry.model_validate(
        {
            "uid": uid,
            "generation": generation,
            "namespace": "shop",
            "name": f"subscription-{uid}",
            "source": "kubernetes",
            "spec": content,
            "url": url,
            "signing_keys": [{"algorithm": "HMAC", "secret": SIGNING_SECRET}],
        }
    )


def source(uid: str, path: str, generation: int = 1, **spec: Any) -> SourceEntry:
    """A source of GitHub's webhooks at that path, or what `spec` says."""
    verification = {"scheme": "GitHub", "secretRefs": [{"name": "github", "key": "secret"}]}
    return SourceEntry.model_validate(
        {
            "uid": uid,
            "generation": generation,
            "namespace": "shop",
            "name": f"source-{uid}",
            "source": "kubernetes",
            "spec": {"verification": verification, "event": {"type": "github.{body:action}"}, "path": path, **spec},
            "secrets": ["s3cret"],
        }
    )


def document(sequence: int, *entries: Entry, origin: str = "origin") -> Document:
    """A document of these entries."""
    return make_document(sequence, origin, [encode_line(one) for one in entries])


def seal(content: Document, key: str = INTERNAL_KEY, at: int | None = None) -> bytes:
    """The document as the operator pushes it."""
    return Sealer([key]).seal(content.to_bytes(), int(time.time()) if at is None else at)


class Mount:
    """A directory that is written as the kubelet writes a projected volume: all at once, by a symbolic link."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, bytes] = {}
        self._version = 0
        directory.mkdir()

    def put(
        self, name: SetName, content: Document, *, manifest: bool = True, chunks: Sequence[int] | None = None
    ) -> None:
        """Stores a document in a set (of its chunks only those given) and makes the manifest name it."""
        parts = split(seal(content), content.sequence)
        for part in parts:
            if chunks is None or part.index in chunks:
                self._secret(f"{name}-{part.index}", part.data())
        if manifest:
            self._secret("manifest", Manifest(name, content.sequence, parts[0].digest, content.revision).data())

    def damage(self, name: SetName) -> None:
        """Changes a byte of a set's first chunk."""
        self._files[f"{name}-0/content"] = b"x" + self._files[f"{name}-0/content"][1:]

    def swap(self) -> None:
        """Makes what was put visible."""
        self._version += 1
        data = self.directory / f"..version-{self._version}"
        for path, content in self._files.items():
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_bytes(content)
        link, old = self.directory / "..data", self.directory / f"..version-{self._version - 1}"
        (self.directory / "..data_tmp").symlink_to(data.name)
        (self.directory / "..data_tmp").replace(link)
        for name in {path.split("/")[0] for path in self._files}:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        shutil.rmtree(old, ignore_errors=True)

    def _secret(self, name: str, data: dict[str, bytes]) -> None:
        self._files |= {f"{name}/{key}": value for key, value in data.items()}
