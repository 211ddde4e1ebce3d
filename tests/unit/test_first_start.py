"""Keys for a first start: made once, private, and only where nobody set them."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from structlog.testing import capture_logs

from hookcast_app.first_start import FILE, generate, with_keys
from hookcast_app.settings import SCOPES, ApiKey, Settings
from hookcast_core.errors import InvalidInput, Reason

KEY = ApiKey(name="ci", key=SecretStr("k" * 16), scopes=frozenset({"read"}))
FERNET = SecretStr(Fernet.generate_key().decode())


def settings(tmp_path: Path, **given: object) -> Settings:
    """Settings with the data directory in a temporary place."""
    return Settings(data_dir=tmp_path / "data", **given)  # type: ignore[arg-type]


def test_a_first_start_makes_keys_that_only_their_owner_can_read(tmp_path: Path) -> None:
    """An API key with all scopes, a Fernet key, a secret of at least 32 bytes, in a file of mode 0600."""
    start = with_keys(settings(tmp_path), {})

    assert start.created
    assert start.file == tmp_path / "data" / FILE
    assert stat.S_IMODE(start.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(start.file.parent.stat().st_mode) == 0o700
    (key,) = start.settings.api_keys
    assert key.scopes == frozenset(SCOPES)
    assert len(key.key.get_secret_value()) > 40
    Fernet(start.settings.encryption_keys[0].get_secret_value())
    assert start.settings.jwt_secret is not None
    assert len(start.settings.jwt_secret.get_secret_value()) >= 32
    assert {path.name for path in start.file.parent.iterdir()} == {".gitignore", FILE}


def test_later_starts_use_the_same_keys(tmp_path: Path) -> None:
    """And say that they made none."""
    first = with_keys(settings(tmp_path), {})

    second = with_keys(settings(tmp_path), {})

    assert not second.created
    assert second.settings == first.settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"api_keys": (KEY,)}, "api_keys"),
        ({"encryption_keys": (FERNET,)}, "encryption_keys"),
        ({"jwt_secret": SecretStr("s" * 32)}, "jwt_secret"),
    ],
)
def test_a_key_that_is_set_wins_on_its_own(tmp_path: Path, given: dict[str, object], kept: str) -> None:
    """The others are still made."""
    with_keys(settings(tmp_path), {})

    start = with_keys(settings(tmp_path, **given), {})

    assert getattr(start.settings, kept) == given[kept]
    assert start.settings.api_keys
    assert start.settings.encryption_keys
    assert start.settings.jwt_secret


def test_with_everything_set_nothing_is_written(tmp_path: Path) -> None:
    """A public key for tokens, or algorithms without shared secrets, need no secret of ours."""
    given = {"api_keys": (KEY,), "encryption_keys": (FERNET,)}
    by_public_key = settings(tmp_path, **given, jwt_public_key="pem")
    by_algorithm = settings(tmp_path, **given, jwt_algorithms=("EdDSA",))

    assert with_keys(by_public_key, {}) == (by_public_key, None, False)
    assert with_keys(by_algorithm, {}) == (by_algorithm, None, False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("given", "field"), [({}, "api_keys"), ({"api_keys": (KEY,)}, "encryption_keys")])
def test_in_a_cluster_nothing_is_made_up(tmp_path: Path, given: dict[str, object], field: str) -> None:
    """Two pods would have different keys: the missing setting is named instead."""
    with pytest.raises(InvalidInput, match="must be set in a cluster") as caught:
        with_keys(settings(tmp_path, **given), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})

    assert caught.value.field == field
    assert not (tmp_path / "data").exists()


def test_in_a_cluster_tokens_may_be_done_without(tmp_path: Path) -> None:
    """Without a token key every token is refused, which is safe."""
    given = settings(tmp_path, api_keys=(KEY,), encryption_keys=(FERNET,))

    assert with_keys(given, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).settings.jwt_secret is None


def test_of_two_first_starts_at_once_one_makes_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second uses the first one's keys, and replaces nothing."""
    first = with_keys(settings(tmp_path), {})
    monkeypatch.setattr(Path, "exists", lambda _path: False)

    second = with_keys(settings(tmp_path), {})

    assert not second.created
    assert second.settings == first.settings
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_a_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    """New keys would make what the old ones encrypted unreadable: the user decides."""
    start = with_keys(settings(tmp_path), {})
    assert start.file is not None
    start.file.write_text('{"api_key": "sec')

    with pytest.raises(InvalidInput, match="restore it, or move it away") as caught:
        with_keys(settings(tmp_path), {})

    assert caught.value.reason is Reason.DATA_DIR_UNUSABLE
    assert "sec" not in str(caught.value).replace("second", "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """One line instead of a traceback."""
    (tmp_path / "data" / FILE).mkdir(parents=True)

    with pytest.raises(InvalidInput, match=FILE):
        with_keys(settings(tmp_path), {})


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe would never give anything."""
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / FILE)

    with pytest.raises(InvalidInput, match=r"keys\.json is no regular file; move it away"):
        with_keys(settings(tmp_path), {})


def test_keys_that_others_may_read_are_warned_of(tmp_path: Path) -> None:
    """With the command that mends it."""
    start = with_keys(settings(tmp_path), {})
    assert start.file is not None
    start.file.chmod(0o644)

    with capture_logs() as logs:
        with_keys(settings(tmp_path), {})

    assert logs[0]["fix"] == f"chmod 600 {start.file}"


def test_keys_differ() -> None:
    """Each installation has its own."""
    assert generate().api_key != generate().api_key
