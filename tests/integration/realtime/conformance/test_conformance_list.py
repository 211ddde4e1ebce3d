"""The list of what is not built yet names tests that there are."""

import re
from pathlib import Path

from tests.integration.realtime.conformance.not_built import NOT_BUILT


def test_every_listed_test_exists() -> None:
    """A renamed test would otherwise be forgotten."""
    sources = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    names = {name for source in sources for name in re.findall(r"^async def (test_\w+)", source, re.MULTILINE)}
    assert {listed.partition("[")[0] for listed in NOT_BUILT} <= names
