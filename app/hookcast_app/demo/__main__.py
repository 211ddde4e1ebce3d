"""`python -m hookcast_app.demo`: exit status 0 after Ctrl-C, 2 where something has to be changed first."""

import io
import os
import sys

INTERRUPTED = 130
"""The shells' exit status after a Ctrl-C, here one that came before there was anything to end in order."""


def main() -> int:
    """Runs the demo until it is interrupted."""
    try:
        # Imported here: they take most of a second, in which Ctrl-C has to be quiet as well.
        from hookcast_app.demo.run import run  # noqa: PLC0415

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # there may be no arrow in the terminal's encoding
        return run(os.environ, sys.stdout)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
