"""The data directory: made private, and a user's own left as it is."""

import stat
from pathlib import Path

import pytest

from hookcast_app.data_dir import prepare
from hookcast_core.errors import InvalidInput, Reason


def test_one_that_is_made_is_private_and_kept_out_of_repositories(tmp_path: Path) -> None:
    """Mode 0700 and a `.gitignore` of everything; a second start changes neither."""
    path = tmp_path / "data"

    assert prepare(path) == path.resolve()
    assert prepare(path) == path.resolve()

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert (path / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("content", ["*.pyc\n", None])
def test_one_that_was_there_stays_as_it_is(tmp_path: Path, content: str | None) -> None:
    """Whether it has a `.gitignore` or none, and whatever its mode: it may be a checkout."""
    tmp_path.chmod(0o755)
    file = tmp_path / ".gitignore"
    if content is not None:
        file.write_text(content)

    prepare(tmp_path)

    assert (file.read_text() if file.exists() else None) == content
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """With the setting's name."""
    (tmp_path / "data").touch()

    with pytest.raises(InvalidInput) as caught:
        prepare(tmp_path / "data")

    assert (caught.value.reason, caught.value.field) == (Reason.DATA_DIR_UNUSABLE, "data_dir")
