"""Runs first: what the shell has set for another Hookcast, or for its way out, is none of the tests' business."""

import os
import signal

for _name in list(os.environ):
    _is_meant = any(part in _name for part in ("_E2E_", "_CONFORMANCE_", "_TEST_"))
    if (_name.upper().startswith("HOOKCAST_") and not _is_meant) or _name.lower().endswith("_proxy"):
        del os.environ[_name]

# A shell ignores SIGINT in what it runs in the background, and so would every server that a test starts and stops.
signal.signal(signal.SIGINT, signal.default_int_handler)
