"""Chromium without a window, for tests of what runs in a page; `python -m tests.support.browser` says which it is."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAMED = "HOOKCAST_TEST_BROWSER"
"""Environment variable with the path of a Chromium that is not on PATH."""
SITE = "hookcast.test"
"""The hosts below it are this machine; no other host has an address (`.test` is reserved, RFC 6761)."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 60.0
"""Seconds until a browser has started, with all that other tests do meanwhile."""
_FAREWELL = 5.0
"""Seconds that a browser has to end by itself."""
_START = 'exec "$0" "$@" 3<&0 4>/dev/null 0</dev/null'
"""Of `sh`, with the program and its flags: the browser ends once nobody holds the other end of descriptor 3."""
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--remote-debugging-port=0",
    # It asks nobody for anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP *.{SITE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # It needs nothing of the machine: no crash reports, no GPU, no keyring, no large /dev/shm.
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--password-store=basic",
)


def find() -> str | None:
    """The program: what HOOKCAST_TEST_BROWSER names, else the first on PATH, else None."""
    return os.environ.get(NAMED) or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def running() -> Iterator[str]:
    """The WebSocket URL of a browser's DevTools; its profile and all its processes are gone at the end.

    Its processes are gone as well if this one is killed.
    """
    program = find()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="hookcast-browser-", ignore_cleanup_errors=True) as directory:
        profile = Path(directory)
        with (profile / "log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", _START, program, *_flags(), f"--user-data-dir={profile}"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": directory},
                start_new_session=True,
            )
        try:
            yield _devtools(process, profile)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_FAREWELL)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _flags() -> tuple[str, ...]:
    """Chromium's sandbox refuses to start as root."""
    return (*_FLAGS, "--no-sandbox") if os.geteuid() == 0 else _FLAGS


def _devtools(process: subprocess.Popen[bytes], profile: Path) -> str:
    """What the browser writes once it listens. Raises AssertionError with its log if it does not come to that."""
    file, end = profile / "DevToolsActivePort", time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with suppress(FileNotFoundError):
            if said := re.fullmatch(r"(\d+)\n(/devtools/browser/[0-9a-f-]{36})", file.read_text(encoding="ascii")):
                return f"ws://127.0.0.1:{said[1]}{said[2]}"
        time.sleep(0.01)
    raise AssertionError(f"no browser ({process.returncode}):\n{(profile / 'log').read_text(errors='replace')}")


if __name__ == "__main__":
    found = find()
    sys.stdout.write(f"{found}\n" if found else "")
    sys.exit(found is None)
