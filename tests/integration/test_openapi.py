"""The API does what its OpenAPI document says, whatever it is asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import serving

CHECKS = (
    "not_a_server_error",
    "response_schema_conformance",
    "status_code_conformance",
    "content_type_conformance",
)


@pytest.mark.timeout(300)
async def test_no_request_breaks_it(tmp_path: Path) -> None:
    """Thousands of requests, right and wrong ones: no error of ours, and no answer that is not documented."""
    (tmp_path / "manifests").mkdir()
    with serving(tmp_path, MANIFESTS=str(tmp_path / "manifests"), LOG_LEVEL="error") as server:
        server.start()
        await server.ready()
        done = subprocess.run(  # noqa: ASYNC221  nothing else is to be done meanwhile
            [
                *(Path(sys.executable).parent / "schemathesis", "run", f"{server.url}/openapi.json"),
                *("-H", f"X-API-Key: {server.api_key}"),
                *("--checks", ",".join(CHECKS), "--max-examples", "15", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert server.stop() == 0

    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
