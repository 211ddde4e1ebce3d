"""The configuration as Kubernetes mounts it: the operator's Secrets as files. Reads them, decides nothing."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hookcast_core.chunks import CHUNK_BYTES, CHUNK_KEYS, MANIFEST_KEYS, MAX_CHUNKS, SETS, join, parse_manifest

_MAX_FILE = CHUNK_BYTES + 1


def sealed_configurations(directory: Path) -> Iterator[bytes]:
    """What whole sets of chunks hold, the manifest's first, then by falling sequence; blocking.

    The kubelet writes each Secret at a time of its own: while the manifest's set is half there, the other one is whole.
    Nothing there, or nothing readable, is nothing.
    """
    manifest = parse_manifest(_secret(directory / "manifest", MANIFEST_KEYS) or {})
    sets = [
        (name, *joined)
        for name in SETS
        if (joined := join([_secret(directory / f"{name}-{index}", CHUNK_KEYS) for index in range(MAX_CHUNKS)]))
    ]
    sets.sort(key=lambda found: (manifest is not None and found[0] == manifest.set, found[1]), reverse=True)
    for _, _, token in sets:
        yield token


def _secret(directory: Path, keys: Iterable[str]) -> Mapping[str, bytes] | None:
    """A Secret's data; None while a key of it is missing."""
    try:
        return {key: _content(directory / key) for key in keys}
    except OSError:
        return None


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FILE)
