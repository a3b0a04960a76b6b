"""The answer to a look-up: who can reuse how much of one prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .ids import LEVELS, HolderId, Level


@dataclass(frozen=True, slots=True)
class Run:
    """The holders whose extent is exactly `blocks`."""

    blocks: int
    holders: frozenset[HolderId]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Runs of (blocks, holders), deepest first, per level. A holder in no run of a level can reuse nothing there."""

    runs: Mapping[Level, Sequence[Run]]

    def extents(self, holder: HolderId) -> tuple[int, int, int]:
        """Leading blocks a holder has in gpu, in gpu or cpu, in any tier; each at least the one before."""
        gpu, cpu, disk = (self._extent(holder, level) for level in LEVELS)
        return gpu, cpu, disk

    def _extent(self, holder: HolderId, level: Level) -> int:
        return next((run.blocks for run in self.runs.get(level, ()) if holder in run.holders), 0)


NO_OVERLAP = Overlap(runs={})
