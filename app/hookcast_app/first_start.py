"""Keys for whoever starts Hookcast without any: made once, kept in the data directory, never shown.

A key that is set explicitly always wins, each on its own. In a cluster nothing is made up: two pods would disagree.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography.fernet import Fernet
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from hookcast_app.data_dir import prepare, unusable
from hookcast_app.settings import SCOPES, ApiKey, Settings
from hookcast_core.errors import InvalidInput, Reason

FILE = "keys.json"
API_KEY_PREFIX = "hck_"
"""Begins every key that we make, so that logs can recognise and redact it."""

_log = structlog.get_logger(__name__)


class GeneratedKeys(BaseModel):
    """What the file holds: an API key with all scopes, a Fernet key, and an HS256 secret of 43 characters."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key: str
    encryption_key: str
    jwt_secret: str


class FirstStart(NamedTuple):
    """The settings to run with; the file that keys came from, if any did; whether it was made just now."""

    settings: Settings
    file: Path | None
    created: bool


def with_keys(settings: Settings, environment: Mapping[str, str]) -> FirstStart:
    """Fills in the keys that are not set. Raises InvalidInput: in a cluster, or where the file is unusable."""
    missing = _missing(settings)
    if not missing:
        return FirstStart(settings, None, created=False)
    if environment.get("KUBERNETES_SERVICE_HOST"):
        _refuse_in_cluster(missing)
        return FirstStart(settings, None, created=False)
    file = prepare(settings.data_dir) / FILE
    try:
        created = not file.exists() and _create(file)
        keys = _read(file)
    except OSError as error:
        raise unusable(file, error) from error
    return FirstStart(settings.model_copy(update=_updates(keys, missing)), file, created)


def generate() -> GeneratedKeys:
    """Fresh keys of 256 random bits each."""
    return GeneratedKeys(
        api_key=API_KEY_PREFIX + secrets.token_urlsafe(32),
        encryption_key=Fernet.generate_key().decode(),
        jwt_secret=secrets.token_urlsafe(32),
    )


def _missing(settings: Settings) -> frozenset[str]:
    token_keys = (settings.jwt_secret, settings.jwt_public_key, settings.jwks_url)
    has_token_key = any(key is not None for key in token_keys)
    takes_shared_secrets = any(algorithm.startswith("HS") for algorithm in settings.jwt_algorithms)
    absent = {
        "api_keys": not settings.api_keys,
        "encryption_keys": not settings.encryption_keys,
        "jwt_secret": not has_token_key and takes_shared_secrets,
    }
    return frozenset(name for name, is_absent in absent.items() if is_absent)


def _refuse_in_cluster(missing: frozenset[str]) -> None:
    """Without a token key connections are refused one by one, which is safe; the other two cannot be done without."""
    for name in sorted(missing - {"jwt_secret"}):
        raise InvalidInput(
            Reason.INVALID_SETTING,
            name,
            "must be set in a cluster: keys made by one pod would be unknown to the others",
        )


def _create(file: Path) -> bool:
    """Writes fresh keys all at once; False if another process was first."""
    draft = file.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(generate().model_dump_json(indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # unlike a rename, never replaces keys that are already in use
            return True
        return False
    finally:
        draft.unlink(missing_ok=True)


def _read(file: Path) -> GeneratedKeys:
    kind = file.stat().st_mode
    mode = stat.S_IMODE(kind)
    if not stat.S_ISREG(kind):  # a pipe would be waited for
        raise InvalidInput(Reason.DATA_DIR_UNUSABLE, "data_dir", f"{file} is no regular file; move it away")
    if mode & 0o077:
        _log.warning("others may read the generated keys", file=str(file), mode=f"{mode:04o}", fix=f"chmod 600 {file}")
    try:
        return GeneratedKeys.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InvalidInput(
            Reason.DATA_DIR_UNUSABLE,
            "data_dir",
            f"{file} does not hold the keys that were made at first start; restore it, "
            "or move it away to get new ones (what the old ones encrypted stays unreadable then)",
        ) from error


def _updates(keys: GeneratedKeys, missing: frozenset[str]) -> dict[str, object]:
    made: dict[str, object] = {
        "api_keys": (ApiKey(name="generated", key=SecretStr(keys.api_key), scopes=frozenset(SCOPES)),),
        "encryption_keys": (SecretStr(keys.encryption_key),),
        "jwt_secret": SecretStr(keys.jwt_secret),
    }
    return {name: value for name, value in made.items() if name in missing}
