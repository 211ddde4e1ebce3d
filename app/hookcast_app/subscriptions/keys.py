"""Generated signing keys, kept as files: one for each subscription that names none, made once and kept."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.names import check_namespace, check_object_name
from hookcast_core.resolve import Identity
from hookcast_core.signing import generate_secret, parse_secret

DIRECTORY = "webhook-secrets"
_MAX_FILE_NAME = 255
_SPACE = re.compile(r"\s")


def generated_key(data_dir: Path, generate: Callable[[], str] = generate_secret) -> Callable[[Identity], str]:
    """A function that gives a subscription's HMAC key from `<data_dir>/webhook-secrets/<namespace>.<name>`.

    The file (mode 0600, its directory 0700) is made on first use, whole or not at all, and never changed afterwards.
    InvalidInput(InvalidSecret) where it cannot be made or read, or holds no key.
    """

    def key_of(identity: Identity) -> str:
        path = data_dir / DIRECTORY / _file_name(identity)
        try:
            return _read(path) if path.exists() else _create(path, generate())
        except OSError as error:
            raise _refused(f"cannot keep a generated key in {path}: {error.strerror}") from None

    return key_of


def _file_name(identity: Identity) -> str:
    """A namespace has no dot, so that no two subscriptions share a name; and neither has a slash."""
    try:
        name = f"{check_namespace(identity.namespace)}.{check_object_name(identity.name)}"
    except ValueError as error:
        raise _refused(str(error)) from None
    if len(name) > _MAX_FILE_NAME:
        raise _refused("namespace and name are too long for a file's name; name a Secret in signing.keys")
    return name


def _read(path: Path) -> str:
    text = path.read_bytes().decode("ascii", errors="replace").strip()
    if _SPACE.search(text):
        raise _refused(f"{path} holds no signing key")
    parse_secret(text, field="signing.keys")
    return text


def _create(path: Path, secret: str) -> str:
    """Writes beside the file, then links it into place: another process's key, if it came first, is the one kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        _sync_directory(path.parent)
    except FileExistsError:
        return _read(path)
    finally:
        temporary.unlink()
    return secret


def _sync_directory(directory: Path) -> None:
    """A key that signed something must not be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_SECRET, "signing.keys", detail)
