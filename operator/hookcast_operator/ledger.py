"""Which sequence first carried which line, and which generation. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from hookcast_core.document import Document, identify
from hookcast_operator.compile import Judgement


class Ledger:
    """Lives as long as the operator leads; begins with what was stored by whoever led before."""

    def __init__(self, stored: Document | None = None) -> None:
        self._lines: dict[str, tuple[bytes, int]] = {}
        self._generations: dict[str, tuple[int, int]] = {}
        for line in (*stored.entries, *stored.sources) if stored else ():
            found = identify(line)
            if found is not None and stored is not None:
                self._lines[found.uid] = (line, stored.sequence)

    @property
    def lines(self) -> Mapping[str, bytes]:
        """What is stored, by UID."""
        return {uid: line for uid, (line, _) in self._lines.items()}

    def published(self, judgements: Iterable[Judgement], sequence: int) -> list[str]:
        """Takes what a stored configuration carries; gives the UIDs of lines that it is the first to carry."""
        lines: dict[str, tuple[bytes, int]] = {}
        generations: dict[str, tuple[int, int]] = {}
        fresh = []
        for judgement in judgements:
            uid, line = judgement.identity.uid, judgement.line
            if line is None:
                continue
            known = self._lines.get(uid)
            if known is None or known[0] != line:
                known = (line, sequence)
                fresh.append(uid)
            lines[uid] = known
            if judgement.holds:
                generation = judgement.identity.generation
                before = self._generations.get(uid)
                generations[uid] = before if before and before[0] == generation else (generation, known[1])
        self._lines, self._generations = lines, generations
        return fresh

    def line_sequence(self, judgement: Judgement) -> int | None:
        """The sequence that first carried the line of now; None while it is not stored."""
        known = self._lines.get(judgement.identity.uid)
        return known[1] if known and known[0] == judgement.line else None

    def configuration_sequence(self, judgement: Judgement, status: Mapping[str, Any]) -> int | None:
        """The sequence that first carried the generation of now, as its status says if it does."""
        generation = judgement.identity.generation
        told = status.get("configurationSequence")
        if status.get("observedGeneration") == generation and isinstance(told, int):
            return told
        known = self._generations.get(judgement.identity.uid)
        return known[1] if known and known[0] == generation else None
