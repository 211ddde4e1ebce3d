"""Keeps the configuration in force in step with a directory of manifests."""

import asyncio
from pathlib import Path

import structlog

from hookcast_app.configuration.current import CurrentConfiguration
from hookcast_app.subscriptions import Loaded, generated_key, load, watch
from hookcast_core.egress import EgressPolicy

_log = structlog.get_logger("hookcast.configuration")


class ConfigurationFiles:
    """Lives as long as the app; `run()` is its one task."""

    def __init__(self, directory: Path, data_dir: Path, policy: EgressPolicy, current: CurrentConfiguration) -> None:
        self._directory = directory
        self._policy = policy
        self._current = current
        self._key = generated_key(data_dir)

    async def load(self) -> None:
        """Reads the directory once. Raises InvalidInput, naming it, where it cannot be read."""
        self._apply(await asyncio.to_thread(load, self._directory, None, self._key, self._policy))

    async def run(self) -> None:
        """Follows the directory until cancelled."""
        async for loaded in watch(self._directory, self._current.configuration, self._key, self._policy):
            self._apply(loaded)

    def check(self) -> str | None:
        """Readiness: a configuration is in force."""
        return "no configuration was loaded yet" if self._current.configuration is None else None

    def _apply(self, loaded: Loaded) -> None:
        problems = tuple(map(str, loaded.problems))
        if (loaded.configuration, problems) == (self._current.configuration, self._current.problems):
            return
        for problem in problems:
            _log.error("subscription refused", problem=problem)
        self._current.swap(loaded.configuration, problems)
        _log.info(
            "configuration in force",
            subscriptions=len(loaded.configuration.entries),
            problems=len(problems),
            sequence=loaded.configuration.sequence,
        )
