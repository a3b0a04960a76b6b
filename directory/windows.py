"""Where a hybrid model can go on: groups of its layers look back a bounded number of blocks, and keep no more."""

from collections.abc import Hashable, Iterable, Iterator, Sequence

from .blocks import Block, Tree
from .counts import ALL, GONE, ONE, nearest
from .names import Names

_NOWHERE = (0, 0, 0)


class Windows:
    """The copies of all such groups, over the tree of blocks, and which names they stand behind.

    A group stands at a block, at a level, if that block and those before it do, as many as it looks back; or all
    since the prompt's first. All groups stand where the one does that stands at the furthest level.

    A change is felt by as many blocks as are looked back to, so changes are gathered until `settle`.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._groups: dict[int, _Group] = {}
        self._stale: dict[Hashable, None] = {}  # in the order in which they changed
        self._standing: dict[Hashable, tuple[Names, int, int]] = {}  # names, name and level that were told of a block

    def __bool__(self) -> bool:
        return bool(self._groups)

    def learn(self, number: int, reach: int) -> bool:
        """Know of a group that looks back `reach` blocks; True if it was not known."""
        if number in self._groups:
            return False
        self._groups[number] = _Group(reach)
        return True

    def store(self, hashes: Sequence[Hashable], number: int, tier: int) -> None:
        """Count one more copy of each block."""
        for engine_hash in hashes:
            self._groups[number].store(engine_hash, tier)
        self.touch(hashes)

    def remove(self, hashes: Sequence[Hashable], number: int, tier: int) -> None:
        """Count one copy less for each mention; unknown blocks and groups are fine."""
        group = self._groups.get(number)
        if group is not None:
            for engine_hash in hashes:
                group.remove(engine_hash, tier)
            self.touch(hashes)

    def touch(self, hashes: Iterable[Hashable]) -> None:
        """The place of these blocks has changed, or is known from here on."""
        self._stale.update(dict.fromkeys(hashes))

    def settle(self) -> None:
        """Tell the names where windows stand after all that has changed."""
        known, stale = self._tree.known, list(reversed(self._stale))
        self._stale.clear()
        while stale:
            engine_hash = stale.pop()
            block = known.get(engine_hash)
            moved = [group.settle(engine_hash, block) for group in self._groups.values()]
            self._stand(engine_hash, block)
            if any(moved) and block is not None:
                stale.extend(self._tree.heirs(block))

    def emptied(self, tree: Tree) -> "Windows":
        """The same groups, over another tree, and no copy in any."""
        empty = Windows(tree)
        for number, group in self._groups.items():
            empty.learn(number, group.reach)
        return empty

    def copies(self) -> Iterator[tuple[int, int, dict[Hashable, int]]]:
        """Each group's number, how far it looks back, and its copies by block, packed like those of the tree."""
        return ((number, group.reach, group.copies) for number, group in self._groups.items())

    def take(self, number: int, copies: dict[Hashable, int]) -> None:
        """Have these copies in a group, for blocks that are yet to be known."""
        self._groups[number].copies = dict(copies)

    def _stand(self, engine_hash: Hashable, block: Block | None) -> None:
        level = max(group.level(engine_hash) for group in self._groups.values())
        stood = self._standing.pop(engine_hash, None)
        if level < GONE and block is not None and block.names is not None and block.name is not None:
            stands = self._standing[engine_hash] = (block.names, block.name, level)
            if stands == stood:
                return
            block.names.move_windows(block.name, GONE, level)
        if stood is not None:
            names, name, level = stood
            names.move_windows(name, level, GONE)


class _Group:
    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.copies: dict[Hashable, int] = {}  # by tier, packed (`counts.py`)
        self._runs: dict[Hashable | None, tuple[int, ...]] = {None: (reach, reach, reach)}

    def store(self, engine_hash: Hashable, tier: int) -> None:
        self.copies[engine_hash] = self.copies.get(engine_hash, 0) + ONE[tier]

    def remove(self, engine_hash: Hashable, tier: int) -> None:
        copies = self.copies.get(engine_hash, 0)
        if copies & ALL[tier]:
            self.copies[engine_hash] = copies - ONE[tier]
        if not self.copies.get(engine_hash, 1):
            del self.copies[engine_hash]

    def level(self, engine_hash: Hashable) -> int:
        """The nearest at which this group stands at a block."""
        runs = self._runs.get(engine_hash, _NOWHERE)
        return next((level for level, run in enumerate(runs, 1) if run >= self.reach), GONE)

    def settle(self, engine_hash: Hashable, block: Block | None) -> bool:
        """Count how many blocks up to here stand, by level and at most as many as are looked back; True if changed."""
        before = self._runs.pop(engine_hash, _NOWHERE)
        runs: tuple[int, ...] = _NOWHERE
        if block is not None and block.name is not None:
            tier = nearest(self.copies.get(engine_hash, 0))
            above = self._runs.get(block.parent, _NOWHERE)
            runs = tuple(self._longer(run) if tier <= level else 0 for level, run in enumerate(above, 1))
        if any(runs):
            self._runs[engine_hash] = runs
        return runs != before

    def _longer(self, run: int) -> int:
        return min(run + 1, self.reach)


def all_known(tree: Tree) -> Iterable[Hashable]:
    """Every block, those before others first."""
    waiting = [tree.known[None]]
    while waiting:
        for engine_hash in tree.heirs(waiting.pop()):
            yield engine_hash
            waiting.append(tree.known[engine_hash])
