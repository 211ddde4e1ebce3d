"""The data directory: where the embedded Redis and the generated keys live. Private to its owner."""

from pathlib import Path

from hookcast_core.errors import InvalidInput, Reason


def prepare(path: Path) -> Path:
    """Makes the directory (mode 0700) where it is missing and returns its absolute path.

    In one that is made here, a `.gitignore` keeps its content out of a repository that it may lie in; one that was
    there belongs to the user and stays as it is.
    Raises InvalidInput (DataDirUnusable, field `data_dir`): it cannot be made.
    """
    try:
        if _make(path):
            with (path / ".gitignore").open("x", encoding="ascii") as file:
                file.write("*\n")
        return path.resolve()
    except OSError as error:
        raise unusable(path, error) from error


def _make(path: Path) -> bool:
    """Whether the directory had to be made; of several processes that try, one makes it."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def unusable(path: Path, error: OSError) -> InvalidInput:
    """What to tell a user whose data directory failed with `error`."""
    return InvalidInput(
        Reason.DATA_DIR_UNUSABLE,
        "data_dir",
        f"cannot write to {path}: {error.strerror or error}; name a directory that this user may write to",
    )
