"""What is counted of one holder beside its bits in the table."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

from .digest import Digest
from .ids import LEVELS, DomainTag, Level
from .masks import ALL, LEVEL_OF, WIDTH


@dataclass(slots=True)
class Slot:
    """A place in every mask. `counts`: names at each level, by `Level`."""

    number: int
    counts: list[int] = field(default_factory=lambda: [0] * (len(LEVELS) + 1))
    digest: Digest = field(default_factory=Digest)
    domains: dict[DomainTag, int] = field(default_factory=dict)  # names of each, in any tier

    @property
    def shift(self) -> int:
        return self.number * WIDTH

    @property
    def own(self) -> int:
        return ALL << self.shift

    @property
    def blocks(self) -> int:
        """How many names, in any tier."""
        return sum(self.counts) - self.counts[Level.NONE]

    def level(self, mask: int) -> Level:
        """Where this holder has a name of this mask."""
        return LEVEL_OF[mask >> self.shift & ALL]

    def count(
        self, level: Level, names: Sequence[int], packed: bytes, masks: Iterable[int], before: Sequence[int]
    ) -> None:
        """Account for names, each once, that go to a level; `before` are their masks so far, `masks` each of these."""
        left = {mask: self.level(mask) for mask in masks}
        olds = set(left.values())
        for old in olds - {level}:
            moved = packed
            if len(olds) > 1:
                moved = array("Q", compress(names, [left[mask] is old for mask in before])).tobytes()
            self.counts[old] -= len(moved) // 8
            self.counts[level] += len(moved) // 8
            self.digest.remove(old, moved)
            self.digest.add(level, moved)
