"""The command line: whatever a user gets wrong is one line on stderr and exit status 2."""

import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from hookcast_app import cli, entry
from tests.integration.standin_process import PATIENCE, environment, refused, served


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The installed distribution's."""
    assert cli.run(["version"]) == 0

    assert capsys.readouterr().out == f"{version('hookcast')}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serve", "--port", "secret"], "hookcast: --port: Input should be a valid integer"),
        (["serve", "--port", "9090"], "hookcast: HOOKCAST_ADMIN_PORT: must differ from port"),
        (["serve", "--prot", "1"], "hookcast: No such option: --prot"),
        (["serve", "--port"], "hookcast: Option '--port' requires an argument"),
        (["servce"], "hookcast: No such command 'servce'"),
        (["serve", "--manifests", "nowhere"], "hookcast: --manifests: cannot read nowhere: No such file"),
        (["serve", "--redis-url", "http://:secret@h"], "hookcast: --redis-url: write `embedded`, or a URL"),
        (["serve", "--host", "192.0.2.1"], "hookcast: --host: cannot listen on 192.0.2.1"),
        (["serve", "--data-dir", ""], "hookcast: --data-dir: is empty"),
        (["serve", "--manifests", ""], "hookcast: --manifests: is empty"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    """No usage text, no traceback, no value that may be a secret."""
    monkeypatch.setattr("hookcast_app.observability.configure_logs", lambda *_: None)

    assert cli.run(arguments) == 2

    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert "secret" not in said


def test_help_and_an_interrupted_prompt_are_no_failures_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """Help is exit status 0 and names every setting of the design's command line."""
    assert cli.run(["serve", "--help"]) == 0

    said = capsys.readouterr().out
    for option in ("--host", "--port", "--admin-port", "--manifests", "--data-dir", "--redis-url", "--role"):
        assert option in said


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"HOOKCAST_PORT": "{port}"}, "hookcast: HOOKCAST_PORT: 127.0.0.1:{port} is in use; stop what listens there"),
        ({"HOOKCAST_DATA_DIR": "/proc/nowhere"}, "hookcast: HOOKCAST_DATA_DIR: cannot write to /proc/nowhere: "),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "hookcast: HOOKCAST_API_KEYS: must be set in a cluster"),
        ({"HOOKCAST_API_KEYS": '[{"secret'}, "hookcast: HOOKCAST_API_KEYS: is not valid JSON: Unterminated"),
    ],
)
def test_a_real_process_tells_and_exits_with_2(tmp_path: Path, settings: dict[str, str], line: str) -> None:
    """The same from outside."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = {"HOOKCAST_PORT": "0", "HOOKCAST_ADMIN_PORT": "0", "HOOKCAST_DATA_DIR": str(tmp_path / "data")}
        given |= {name: value.replace("{port}", port) for name, value in settings.items()}

        status, said = refused("serve", cwd=tmp_path, **given)

    assert status == 2
    assert said.startswith(line.replace("{port}", port))
    assert said.count("\n") == 1


def test_a_first_start_says_where_the_keys_are_and_not_what_they_are(tmp_path: Path) -> None:
    """Once; later starts use them silently."""
    with served(tmp_path, name="first") as server:
        server.event("listening")
        said = server.log.read_text()
    with served(tmp_path, name="second") as server:
        server.event("listening")
        again = server.log.read_text()

    file = tmp_path / "data" / "keys.json"
    assert f"hookcast: made an API key and other secrets; they are in {file}" in said
    assert str(file) not in again
    for line in file.read_text().splitlines()[1:-1]:
        assert line.split('"')[3] not in said


def test_a_wrong_egress_entry_is_told_with_the_settings_name_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found when the app is made, not when the settings are read; the user cannot tell."""
    monkeypatch.setattr("hookcast_app.observability.configure_logs", lambda *_: None)
    given = {"PORT": "0", "ADMIN_PORT": "0", "DATA_DIR": str(tmp_path / "data"), "EGRESS_ALLOW": "10.0.0.0/33"}
    for name, value in given.items():
        monkeypatch.setenv(f"HOOKCAST_{name}", value)

    assert cli.run(["serve"]) == 2

    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("hookcast: HOOKCAST_EGRESS_ALLOW: '10.0.0.0/33' is neither a network")
    assert "egress_allow" not in said


def test_ctrl_c_while_its_parts_are_imported_is_quiet(tmp_path: Path) -> None:
    """The first moments of the command: the shells' status, and nothing on the terminal."""
    # A module that the command imports at its head, standing in for any of them, waits within its import.
    (tmp_path / "structlog.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "hookcast_app.entry", "serve"]
    with subprocess.Popen(
        command,
        env=environment({"PYTHONPATH": str(tmp_path)}),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"importing\n"

        process.send_signal(signal.SIGINT)

        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == b""


def test_the_entry_point_exits_with_the_command_lines_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds nothing of its own."""
    monkeypatch.setattr(sys, "argv", ["hookcast", "servce"])

    with pytest.raises(SystemExit) as caught:
        entry.main()

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("hookcast: No such command")


def test_a_missing_redis_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told when the app starts, after the ports are open: still exit status 2, and without a traceback."""
    monkeypatch.setenv("STANDIN_NO_REDIS", "1")
    given = {"HOOKCAST_PORT": "0", "HOOKCAST_ADMIN_PORT": "0", "HOOKCAST_LOG_LEVEL": "error"}

    status, said = refused("serve", cwd=tmp_path, **given)

    assert status == 2
    assert said.splitlines()[-1].startswith("hookcast: HOOKCAST_REDIS_URL: `embedded` needs valkey-server")
    assert "Traceback" not in said
