"""The `hookcast` command. Whatever a user can get wrong is told in one line that names it, with exit status 2."""

import asyncio
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic_settings import SettingsError
from typer.exceptions import Abort, TyperException

from hookcast_app.settings import Settings
from hookcast_app.settings_errors import explain_input, explain_settings
from hookcast_core.errors import HookcastError, InvalidInput, Reason

USAGE = 2
"""Exit status: what the user gave does not hold."""
FAILED = 1
"""Exit status: something went wrong here."""

_log = structlog.get_logger("hookcast")
_app = typer.Typer(
    help="Realtime broadcast and reliable webhooks.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # they print local variables, secrets among them
)

# All options are strings here: Settings alone decides what holds, so that a value from the command line and one from
# the environment get the same answer.
Option = str | None


def main() -> None:
    """The entry point; exits with 0, 1 or 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs the command line; the exit status."""
    try:
        status = _app(arguments, prog_name="hookcast", standalone_mode=False)
    except TyperException as error:
        return _refuse(f"{error.format_message()} (see hookcast --help)")
    except Abort:
        return FAILED
    return status if isinstance(status, int) else 0


@_app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("hookcast"))


@_app.command()
def serve(
    host: Annotated[Option, typer.Option(help="Address of the users' port [127.0.0.1].")] = None,
    port: Annotated[Option, typer.Option(help="Users' port, 0 takes a free one [8000].")] = None,
    admin_host: Annotated[Option, typer.Option(help="Address of the admin port [127.0.0.1].")] = None,
    admin_port: Annotated[Option, typer.Option(help="Port of metrics and health [9090].")] = None,
    manifests: Annotated[Option, typer.Option(metavar="DIR", help="Directory of subscriptions, watched.")] = None,
    data_dir: Annotated[Option, typer.Option(metavar="DIR", help="Embedded Redis, generated keys [.hookcast].")] = None,
    redis_url: Annotated[Option, typer.Option(metavar="URL", help="embedded, or redis://… [embedded].")] = None,
    role: Annotated[Option, typer.Option(help="all, api or dispatcher [all].")] = None,
    log_level: Annotated[Option, typer.Option(help="debug, info, warning or error [info].")] = None,
    log_format: Annotated[Option, typer.Option(help="auto, json or text [auto].")] = None,
) -> int:
    """Serve. Each option is a setting of the same name (HOOKCAST_PORT for --port); what is given here wins."""
    given = {name: value for name, value in locals().items() if value is not None}
    try:
        settings = Settings(**given)
    except (SettingsError, ValueError) as error:
        return _refuse(explain_settings(error, given))
    try:
        return _serve(settings)
    except InvalidInput as error:
        return _refuse(explain_input(error, given))
    except Exception as error:  # noqa: BLE001  the process's last words
        _log.critical("hookcast failed", exc_info=error)
        return FAILED


@_app.command()
def migrate(
    source: Annotated[
        str,
        typer.Option(
            "--from", envvar="HOOKCAST_MIGRATE_FROM", metavar="URL", help="The Redis with the data, or embedded."
        ),
    ],
    target: Annotated[
        Option, typer.Option("--to", envvar="HOOKCAST_MIGRATE_TO", metavar="URL", help="The Redis to move it to.")
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="HOOKCAST_DATA_DIR", metavar="DIR", help="Where the embedded one is [.hookcast].")
    ] = Path(".hookcast"),
    force: Annotated[bool, typer.Option("--force", help="Delete what the target holds of Hookcast's.")] = False,  # noqa: FBT002  a flag
    abandon: Annotated[bool, typer.Option("--abandon", help="Give an interrupted move up, stay with --from.")] = False,  # noqa: FBT002
) -> int:
    """Move everything to another Redis, with nothing lost. May be interrupted and run again.

    Servers on the source stop accepting events while it runs, and for good when it has ended.
    """
    # Imported late, as in _serve.
    from hookcast_app import migration  # noqa: PLC0415
    from hookcast_app.observability import configure_logs  # noqa: PLC0415

    configure_logs("warning", "auto")
    if not abandon and target is None:
        return _refuse("Missing option '--to'. (see hookcast --help)")
    try:
        if abandon or target is None:
            asyncio.run(migration.abandon(source, data_dir, _say))
        else:
            asyncio.run(migration.migrate(source, target, data_dir, _say, force=force))
    except InvalidInput as error:
        return _refuse(explain_input(error, {"from", "to", "data_dir"}))
    except HookcastError as error:
        _say(str(error))
        return FAILED
    except Exception as error:  # noqa: BLE001  as in serve
        _log.critical("hookcast failed", exc_info=error)
        return FAILED
    return 0


@_app.command()
def check(
    redis_url: Annotated[
        str, typer.Option(envvar="HOOKCAST_REDIS_URL", metavar="URL", help="The Redis, or any node of a cluster.")
    ],
) -> int:
    """Prove over a whole Redis that every delivery is in exactly one place. Writes nothing.

    For a deployment at rest: what moves meanwhile may be seen twice. Status 1 if something is wrong.
    """
    # Imported late, as in _serve.
    from hookcast_app.delivery import checker  # noqa: PLC0415

    try:
        report = asyncio.run(checker.check_deployment(redis_url))
    except InvalidInput as error:
        return _refuse(explain_input(error, {"redis_url"}))
    except HookcastError as error:
        _say(str(error))
        return FAILED
    for violation in report.violations:
        typer.echo(str(violation))
    places = ", ".join(f"{count:,} {place}" for place, count in sorted(report.places.items())) or "no deliveries"
    typer.echo(f"{report.events:,} events; {places}; {len(report.violations):,} violations")
    return FAILED if report.violations else 0


def _serve(settings: Settings) -> int:
    # Imported late: `hookcast version` and a refused setting need none of it.
    from hookcast_app.first_start import with_keys  # noqa: PLC0415
    from hookcast_app.main import create_app  # noqa: PLC0415
    from hookcast_app.observability import configure_logs  # noqa: PLC0415
    from hookcast_app.realtime.wire import RawWebSocket  # noqa: PLC0415
    from hookcast_app.server import listen, serve_application  # noqa: PLC0415

    configure_logs(settings.log_level, settings.log_format)
    _check_manifests(settings)
    listeners = listen(settings)
    try:
        start = with_keys(settings, os.environ)
        if start.created:
            typer.echo(f"hookcast: made an API key and other secrets; they are in {start.file}", err=True)
        return serve_application(start.settings, create_app(start.settings), listeners, RawWebSocket)
    finally:
        listeners.close()


def _check_manifests(settings: Settings) -> None:
    """Whether the directory can be read now: later it would only be a log line."""
    if settings.manifests is None:
        return
    try:
        os.listdir(settings.manifests)  # noqa: PTH208  iterdir() reads nothing until it is used
    except OSError as error:
        raise InvalidInput(
            Reason.INVALID_SETTING,
            "manifests",
            f"cannot read {settings.manifests}: {error.strerror}; name a directory of YAML files",
        ) from error


def _refuse(line: str) -> int:
    """One line, whatever was in it."""
    _say(line)
    return USAGE


def _say(line: str) -> None:
    typer.echo(f"hookcast: {' '.join(line.split())}", err=True)
