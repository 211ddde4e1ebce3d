"""The `hookcast` command's entry point: quiet from the first moment on when Ctrl-C ends it."""

import sys

INTERRUPTED = 130
"""The shells' exit status after a Ctrl-C, here one that came before there was anything to end in order."""


def main() -> None:
    """Runs the command line and exits with its status."""
    try:
        # Imported here: it takes most of a second, in which Ctrl-C has to be quiet as well.
        from hookcast_app import cli  # noqa: PLC0415

        cli.main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
