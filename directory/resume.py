"""Where a hybrid model can go on: with sliding windows, an extent is the deepest depth whose windows stand too."""

from collections.abc import Mapping

from .ids import DomainTag
from .prefix import Prefix
from .search import End

_FIRST_RUN = 16  # names at once; then twice as many, since windows stand near the end of a prompt or far from it


def resumable(prefix: Prefix, ends: list[End], lacking: Mapping[DomainTag, Mapping[int, int]]) -> list[End]:
    """Move the bits of each end up to the deepest depth where they are not lacking; at none they vanish.

    `ends` are of the closed chain, deepest first. It looks at every depth between, so it costs a name for each.
    """
    moved: list[End] = []
    names = _Names(prefix)
    below = list(reversed(ends))
    stuck = depth = 0
    while below or (stuck and depth):
        if not stuck:
            depth = below[-1][0]
        here = stuck | (below.pop()[1] if below and below[-1][0] == depth else 0)
        table = lacking.get(prefix.segment(depth).key.tag)
        stuck = here & table.get(names.at(depth), 0) if table else 0
        if here != stuck:
            moved.append((depth, here ^ stuck))
        depth -= 1
    return moved


class _Names:
    """Names of depths that are asked for in falling order."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._low = prefix.blocks
        self._run: list[int] = []
        self._size = _FIRST_RUN

    def at(self, depth: int) -> int:
        if not self._low < depth <= self._low + len(self._run):
            self._low = max(0, depth - self._size)
            self._run = self._prefix.start.ahead(self._low).names(depth)
            self._size *= 2
        return self._run[depth - self._low - 1]
