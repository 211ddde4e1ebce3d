"""Keeps the configuration in force in step with the operator: what it pushes, and what Kubernetes mounts.

A push takes effect at once. The mount is what a pod starts from while the operator is away, and trails by a minute or
more. Nothing here talks to the Kubernetes API.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from hookcast_app import garbage
from hookcast_app.configuration.acceptance import LineReader, Rejected
from hookcast_app.configuration.current import CurrentConfiguration
from hookcast_app.configuration.mount import sealed_configurations
from hookcast_app.subscriptions import Matcher, changes
from hookcast_core.configuration import Configuration
from hookcast_core.document import MAX_BYTES, Document, parse_document
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.sealing import Sealer
from hookcast_core.versions import Verdict, Version, judge

Way = Literal["push", "mount"]
MANY = 500
"""Objects that are new at once: then the collector of cycles must not go through them all."""
LOOK_MS = 10_000
"""The mount is looked at this often without a notification."""

_log = structlog.get_logger("hookcast.configuration")


@dataclass(frozen=True, slots=True)
class InForce:
    """The configuration in force: which one it is, how it came, and what of it was rejected."""

    version: Version
    way: Way
    rejected: tuple[Rejected, ...]


class KubernetesConfiguration:
    """Lives as long as the app; `run()` is its one task, which follows the mount."""

    def __init__(self, directory: Path, sealer: Sealer, policy: EgressPolicy, current: CurrentConfiguration) -> None:
        self._directory = directory
        self._sealer = sealer
        self._reader = LineReader(policy)
        self._current = current
        self._one_at_a_time = asyncio.Lock()
        self._seen: list[bytes] | None = None
        self.in_force: InForce | None = None
        self.pushed_at = 0.0
        """When the operator was last heard of (epoch seconds), whether or not it brought something new."""

    async def load(self) -> None:
        """Takes what is mounted, if anything is that is newer than what is in force. Never raises for what it finds."""
        tokens = await asyncio.to_thread(lambda: list(sealed_configurations(self._directory)))
        if tokens == self._seen:
            return
        self._seen = tokens
        refused = set()
        for token in tokens:
            try:
                await self._take(token, "mount")
                break
            except InvalidInput as error:
                refused.add(str(error))
        for problem in sorted(refused):
            _log.error("mounted configuration refused", problem=problem)

    async def push(self, token: bytes) -> InForce:
        """Puts a pushed configuration in force, unless it is already.

        Raises InvalidInput: INVALID_CONFIGURATION, or STALE_CONFIGURATION if what is in force is newer.
        """
        verdict = await self._take(token, "push")
        self.pushed_at = time.time()
        assert self.in_force is not None, "a push is refused or in force"  # noqa: S101
        if verdict is Verdict.STALE:
            detail = f"sequence {self.in_force.version.sequence} is in force and newer, or sealed later"
            raise InvalidInput(Reason.STALE_CONFIGURATION, None, detail)
        return self.in_force

    async def run(self) -> None:
        """Follows the mount until cancelled."""
        async for _ in changes(self._directory, LOOK_MS):
            await self.load()

    def check(self) -> str | None:
        """Readiness: a configuration is in force."""
        return "no configuration was mounted or pushed yet" if self.in_force is None else None

    async def _take(self, token: bytes, way: Way) -> Verdict:
        async with self._one_at_a_time:
            document, version = await asyncio.to_thread(self._open, token)
            verdict = judge(version, self.in_force.version if self.in_force else None)
            if verdict is Verdict.NEW:
                apply = await asyncio.to_thread(self._prepare, document)
                self.in_force = InForce(version, way, apply())
                _log.info(
                    "configuration in force",
                    way=way,
                    sequence=version.sequence,
                    subscriptions=len(self._current.entries),
                    sources=len(self._current.sources),
                    rejected=len(self.in_force.rejected),
                )
            return verdict

    def _open(self, token: bytes) -> tuple[Document, Version]:
        content, sealed_at = self._sealer.open(token, MAX_BYTES)
        document = parse_document(content)
        return document, Version(document.origin, document.sequence, document.revision, sealed_at)

    def _prepare(self, document: Document) -> Callable[[], tuple[Rejected, ...]]:
        """Does all that takes long; what it returns puts the result in force, in one step."""
        with garbage.much_that_stays() if self._reader.count_new(document) > MANY else nullcontext():
            return self._prepared(document)

    def _prepared(self, document: Document) -> Callable[[], tuple[Rejected, ...]]:
        entries, rejected = self._reader.read(document, self._current.entries)
        sources, rejected_sources = self._reader.read_sources(document, self._current.sources)
        configuration = Configuration(
            sequence=document.sequence, origin=document.origin, entries=entries, sources=sources
        )
        matcher = Matcher(configuration.entries, self._current.matcher)

        def apply() -> tuple[Rejected, ...]:
            for refusal in rejected:
                _log.error("subscription rejected", problem=str(refusal))
            for refusal in rejected_sources:
                _log.error("webhook source rejected", problem=str(refusal))
            # A source that does not hold says nothing about which subscriptions there are.
            self._current.swap(configuration, tuple(map(str, rejected)), matcher)
            return rejected + rejected_sources

        return apply
