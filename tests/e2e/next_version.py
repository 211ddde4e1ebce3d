"""The version after this one, as its developers would make it: an optional field, and all that follows from it."""

import os
import re
import shutil
import sys
from pathlib import Path

from hookcast_operator.crds.definition import SCHEMA_VERSION
from tests.e2e.cluster import ROOT, TAG, run

NEXT_TAG = f"{TAG}-next"
NEXT_SCHEMA = SCHEMA_VERSION + 1
PARTS = ("app", "charts", "core", "docs", "manifests", "operator", "requirements")
FILES = ("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml")
FIELD = '    note: str | None = Field(default=None, max_length=256, description="For people alone.")'


def make_next_version(folder: Path) -> Path:
    """Writes its tree to a folder, builds its images, and gives its chart."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    _change(folder / "core/hookcast_core/subscription.py", r"(?m)^(    max_backlog: MaxBacklog .*)$", rf"\1\n{FIELD}")
    definition = folder / "operator/hookcast_operator/crds/definition.py"
    _change(definition, r"(?m)^SCHEMA_VERSION = .*$", f"SCHEMA_VERSION = {NEXT_SCHEMA}")
    _change(folder / "charts/hookcast/Chart.yaml", r"(?m)^version: .*$", "version: 99.0.0")
    paths = os.pathsep.join(str(folder / part) for part in ("core", "operator", "app"))
    run("env", f"PYTHONPATH={paths}", sys.executable, "-m", "hookcast_operator.crds")
    assert "note:" in (folder / "charts/hookcast/templates/crds/webhooksubscriptions.yaml").read_text()
    for image, target in (("hookcast", "app"), ("hookcast-operator", "operator")):
        what = ("--target", target, "--tag", f"{image}:{NEXT_TAG}", str(folder))
        run("docker", "build", "--quiet", "--network", "host", *what, timeout=900)
    return folder / "charts/hookcast"


def _change(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count == 1, f"{file.name}: {pattern} is there {count} times"
    file.write_text(text)
