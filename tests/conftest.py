"""Runs first: what the shell has set for another Hookcast, or for its way out, is none of the tests' business."""

import os

for _name in list(os.environ):
    if _name.upper().startswith("HOOKCAST_") or _name.lower().endswith("_proxy"):
        del os.environ[_name]
