"""Subscriptions from a directory of manifests: read it once, or follow its changes."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import watchfiles
from watchfiles._rust_notify import WatchfilesRustInternalError

from hookcast_app.subscriptions.compiling import Loaded, ManifestFile, Previous, Problem, compile_files
from hookcast_app.subscriptions.manifests import MAX_BYTES, InvalidManifest, parse_documents
from hookcast_core.configuration import Configuration
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.resolve import Identity

__all__ = ["Loaded", "Problem", "changes", "load", "watch"]

SUFFIXES = frozenset({".yaml", ".yml"})
QUIET_MS = 50
"""A change is read when nothing else has changed for so long: editors and kubelets write in several steps."""
DEBOUNCE_MS = 500
"""A change is read at the latest after so long, however much goes on."""
LOOK_MS = 1_000
"""Without a notification the directory is looked at this often: network file systems and replaced mounts send none."""

Signature = tuple[tuple[str, int, int, int], ...]


def load(
    directory: Path,
    previous: Configuration | None,
    generated_key: Callable[[Identity], str],
    policy: EgressPolicy,
    origins: Mapping[str, str] | None = None,
) -> Loaded:
    """What the `*.yaml` and `*.yml` files of a directory hold, in the order of their names; blocking.

    Entries of `previous` stay in force where their document is broken; `origins` (of the last `Loaded`) says which
    file each came from. InvalidInput, naming the directory, where it cannot be read.
    """
    files = [_read(path) for path in _files(directory)]
    return compile_files(files, Previous(previous, origins or {}), generated_key, policy)


async def watch(
    directory: Path,
    previous: Configuration | None,
    generated_key: Callable[[Identity], str],
    policy: EgressPolicy,
    *,
    look_ms: int = LOOK_MS,
) -> AsyncGenerator[Loaded, None]:
    """What the directory holds, each time that configuration or problems change; runs until it is closed.

    Begins with what changed since `previous` was loaded. Files may be replaced one by one, or all at once by a
    symbolic link (as Kubernetes mounts do). While the directory cannot be read the last good configuration stays and
    that is the problem reported. Without a notification it is looked at every `look_ms`.
    """
    last = Loaded(previous or Configuration(sequence=0), (), {})
    seen: Signature | None = None
    is_first = True
    async for notified in changes(directory, look_ms):
        signature = await asyncio.to_thread(_signature, directory)
        if not notified and signature == seen and not is_first:
            continue
        loaded = await asyncio.to_thread(_reload, directory, last, generated_key, policy)
        if _differs(loaded, last) or (is_first and previous is None):
            yield loaded
        last, seen, is_first = loaded, signature, False


def _differs(loaded: Loaded, last: Loaded) -> bool:
    return loaded.configuration != last.configuration or loaded.problems != last.problems


def _reload(directory: Path, last: Loaded, generated_key: Callable[[Identity], str], policy: EgressPolicy) -> Loaded:
    try:
        previous = last.configuration if last.configuration.sequence else None
        return load(directory, previous, generated_key, policy, last.origins)
    except InvalidInput as error:
        problem = Problem(str(directory), None, error.field, error.reason, error.detail)
        return Loaded(last.configuration, (problem,), last.origins)


async def changes(directory: Path, look_ms: int) -> AsyncGenerator[bool, None]:
    """True for each change in a directory that was notified, False every `look_ms` without one; the first at once."""
    yield False
    while True:
        watched = _identity(directory)
        try:
            async for changes in watchfiles.awatch(
                directory,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=QUIET_MS,
                rust_timeout=look_ms,
                yield_on_timeout=True,
            ):
                yield bool(changes)
                if _identity(directory) != watched:
                    # Another directory has this path now; the old one's notifications say nothing about it.
                    break
        except (OSError, WatchfilesRustInternalError):
            # The directory is gone, or the system's notifications are used up; looking at it goes on without them.
            await asyncio.sleep(look_ms / 1000)
            yield False


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        stat = directory.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _files(directory: Path) -> list[Path]:
    try:
        # Names with a dot first are the editors' and the kubelet's own.
        found = [path for path in directory.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
        return sorted(path for path in found if not path.is_dir())
    except OSError as error:
        detail = f"cannot read the directory {directory}: {error.strerror}"
        raise InvalidInput(Reason.INVALID_SUBSCRIPTION, "manifests", detail) from None


def _read(path: Path) -> ManifestFile:
    try:
        # Without O_NONBLOCK opening a named pipe waits for a writer, for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ManifestFile(path.name, error="is not a regular file")
            content = file.read(MAX_BYTES + 1)
        return ManifestFile(path.name, tuple(parse_documents(content)))
    except OSError as error:
        return ManifestFile(path.name, error=f"cannot be read: {error.strerror}")
    except InvalidManifest as error:
        return ManifestFile(path.name, error=str(error))


def _signature(directory: Path) -> Signature | None:
    """Changes with the files' names, inodes, sizes and times; None while the directory cannot be read."""
    try:
        stats = [(path.name, path.stat()) for path in _files(directory)]
    except (OSError, InvalidInput):
        return None
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
