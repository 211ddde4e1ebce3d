"""The sample subscriptions, and the port that they send to."""

import errno
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hookcast_app.data_dir import prepare, unusable
from hookcast_core.errors import InvalidInput, Reason

DIRECTORY = Path(__file__).parents[3] / "manifests" / "samples"
HOST = "127.0.0.1"
PORT = 9000
"""Where the samples send their webhooks."""
SETTING = "HOOKCAST_RECEIVER_PORT"
_LAST_PORT = 65_535


class Samples(NamedTuple):
    """A directory of manifests, to be watched, and the listening socket that their webhooks go to."""

    directory: Path
    listener: socket.socket
    port: int
    is_moved: bool
    """Whether the samples' own port was taken by another program."""
    is_copy: bool
    """Whether the directory was made for this run, and goes with it."""

    @property
    def shown(self) -> str:
        """The directory as a user in the current one would write it."""
        directory, here = self.directory.resolve(), Path.cwd()
        return str(directory.relative_to(here) if directory.is_relative_to(here) else directory)

    def close(self) -> None:
        """Removes the copy, then stops listening: while we have the port no other run writes to its directory."""
        if self.is_copy:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.listener.close()


def open_samples(environment: Mapping[str, str], data_dir: Path, source: Path = DIRECTORY) -> Samples:
    """Listens where the samples send to.

    If another program has that port, a free one is taken and the samples are copied with it to `samples-<port>` in the
    data directory: nothing has to be set to see the demo. A port of HOOKCAST_RECEIVER_PORT is taken as it is. Whoever
    listens on a port owns its directory, so that no run touches what another one watches. Raises InvalidInput.
    """
    if not source.is_dir():
        detail = f"{source} is missing; the demo runs from a checkout (or: hookcast serve --manifests DIR)"
        raise InvalidInput(Reason.INVALID_SETTING, None, detail)
    listener = _listen(environment.get(SETTING))
    port: int = listener.getsockname()[1]
    if port == PORT:
        return Samples(source, listener, port, is_moved=False, is_copy=False)
    try:
        copy = _copy(source, data_dir, port)
        return Samples(copy, listener, port, is_moved=not environment.get(SETTING), is_copy=True)
    except BaseException:
        listener.close()
        raise


def _listen(given: str | None) -> socket.socket:
    if given:
        return _bind(_port(given))
    try:
        return _bind(PORT)
    except InvalidInput as error:
        if error.reason is not Reason.ADDRESS_IN_USE:
            raise
        return _bind(0)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= _LAST_PORT):
        raise InvalidInput(
            Reason.INVALID_SETTING, "receiver_port", f"write a port from 0 (any free one) to {_LAST_PORT}"
        )
    return int(text)


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE
        reason = Reason.ADDRESS_IN_USE if in_use else Reason.INVALID_SETTING
        detail = f"{HOST}:{port} is in use" if in_use else f"cannot listen on {HOST}:{port}: {error.strerror}"
        raise InvalidInput(reason, "receiver_port", detail) from error
    listener.setblocking(False)
    return listener


def _copy(source: Path, data_dir: Path, port: int) -> Path:
    """The samples with another port. What is there already is of a run that was killed: the port is ours now."""
    target = prepare(data_dir) / f"samples-{port}"
    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for file in sorted(source.glob("*.y*ml")):
            text = file.read_text(encoding="utf-8").replace(f"{HOST}:{PORT}/", f"{HOST}:{port}/")
            (target / file.name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unusable(target, error) from error
    return target
