"""The data directory: where the embedded Redis and the generated keys live. Private to its owner."""

from pathlib import Path

from hookcast_core.errors import InvalidInput, Reason


def prepare(path: Path) -> Path:
    """Makes the directory (mode 0700) where it is missing and returns its absolute path.

    A `.gitignore` keeps its content out of a repository that it may lie in.
    Raises InvalidInput (DataDirUnusable, field `data_dir`): it cannot be made or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / ".gitignore").write_text("*\n", encoding="ascii")
        return path.resolve()
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> InvalidInput:
    """What to tell a user whose data directory failed with `error`."""
    return InvalidInput(
        Reason.DATA_DIR_UNUSABLE,
        "data_dir",
        f"cannot write to {path}: {error.strerror or error}; name a directory that this user may write to",
    )
