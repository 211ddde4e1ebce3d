"""No definition is replaced by an older one, which would drop fields of stored objects. Nothing is changed here."""

import json
import subprocess
from collections.abc import Mapping

import pytest

from tests.e2e.cluster import Object, Release

VERSION = "hookcast.dev/schema-version"
DEFINITIONS = ("webhooksubscriptions.hookcast.dev", "webhooksources.hookcast.dev")


def replaced(definition: Object, annotations: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What the API server would say of this definition with these annotations."""
    given = definition | {"metadata": {"name": definition["metadata"]["name"], "annotations": dict(annotations)}}
    command = ["kubectl", "replace", "--dry-run=server", "-f", "-"]
    return subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_older_schema_is_refused_and_a_newer_one_is_not(release: Release, name: str) -> None:
    """Older is a lower number, or none; the refusal says what to do instead."""
    definition = release.cluster.get("crd", name, release.namespace)
    annotations: dict[str, str] = definition["metadata"]["annotations"]
    version = int(annotations[VERSION])
    none = {key: value for key, value in annotations.items() if key != VERSION}

    refusals = [replaced(definition, annotations | {VERSION: str(version - 1)}), replaced(definition, none)]
    accepted = replaced(definition, annotations | {VERSION: str(version + 1)})

    for refusal in refusals:
        assert refusal.returncode == 1
        assert f"has schema version {version} and would get the older" in refusal.stderr
        assert "--set crds.enabled=false" in refusal.stderr
    assert accepted.returncode == 0, accepted.stderr
