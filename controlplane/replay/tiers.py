"""A replica's cache with the tiers below it, and the account it gives of all of them."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from .block_cache import BlockCache, Name
from .job import CacheChange, Tier


class Hit(NamedTuple):
    """The leading blocks of a prompt that need not be computed, by where they are."""

    blocks: list[int]  # of the GPU, shared as they stand
    cpu_blocks: int
    disk_blocks: int

    @property
    def depth(self) -> int:
        return len(self.blocks) + self.cpu_blocks + self.disk_blocks

    def cut(self, count: int) -> "Hit":
        """Keep at most so many; the deepest go first."""
        if self.depth <= count:
            return self
        blocks = self.blocks[:count]
        cpu_blocks = min(self.cpu_blocks, count - len(blocks))
        return Hit(blocks, cpu_blocks, min(self.disk_blocks, count - len(blocks) - cpu_blocks))


class Tiers:
    """A block is in one tier: evicted it sinks to the next that has any room, used again it rises to the GPU."""

    def __init__(self, blocks: int, cpu_blocks: int = 0, disk_blocks: int = 0, *, told: bool = True) -> None:
        self.gpu = BlockCache(blocks)
        self.evicted_blocks = 0  # from the GPU
        self._lower: list[tuple[Tier, int, OrderedDict[Name, None]]] = []
        if cpu_blocks:
            self._lower.append(("cpu", cpu_blocks, OrderedDict()))
        if disk_blocks:
            self._lower.append(("disk", disk_blocks, OrderedDict()))
        self._told = told
        self._untold: list[CacheChange] = []
        self._parents: dict[Name, int | None] = {}  # of what may sink
        self._lifted: list[tuple[Tier, Name]] = []  # not told yet

    def held(self) -> Iterator[Name]:
        """Give every name that is in some tier, once."""
        yield from self.gpu.held()
        for _, _, names in self._lower:
            yield from names

    def depth(self, domain: int, block_ids: Sequence[int], limit: int, coming: Collection[int] = frozenset()) -> int:
        """Count the leading blocks that are in any tier or among those coming, at most `limit`.

        A few look-ups, since a prefix outlives what follows it.
        """
        found, lower = self.gpu.names(domain), bool(self._lower)

        def missing(block_id: int) -> bool:
            if block_id in found or block_id in coming:
                return False
            return not lower or self._tier_of((domain, block_id)) is None

        return bisect_right(block_ids, False, hi=min(limit, len(block_ids)), key=missing)

    def find(self, domain: int, block_ids: Sequence[int]) -> Hit:
        """Say where the leading blocks are."""
        blocks = self.gpu.find(domain, block_ids)
        below = {"cpu": 0, "disk": 0}
        if self._lower:
            for block_id in block_ids[len(blocks) :]:
                tier = self._tier_of((domain, block_id))
                if tier is None:
                    break
                below[tier] += 1
        return Hit(blocks, below["cpu"], below["disk"])

    def below(self, domain: int, block_ids: Sequence[int]) -> tuple[int, int]:
        """Count the leading blocks that are on the CPU and on disk."""
        if not self._lower:
            return 0, 0
        hit = self.find(domain, block_ids)
        return hit.cpu_blocks, hit.disk_blocks

    def take(self, count: int) -> list[int]:
        """Give blocks that hold nothing; what has to go sinks."""
        blocks = self.gpu.take(count)
        if self.gpu.evicted:
            evicted, self.gpu.evicted = self.gpu.evicted, []
            self.evicted_blocks += len(evicted)
            if not self._lower:
                self._removed("gpu", evicted)
                return blocks
            for name in evicted:
                self._sink(name)
        return blocks

    def lift(self, names: Sequence[Name]) -> None:
        """Take names out of the tiers below; they are about to be filled into the GPU."""
        for tier, _, held in self._lower:
            for name in names:
                if name in held:
                    del held[name]
                    self._lifted.append((tier, name))

    def fill(self, domain: int, block_ids: Sequence[int], blocks: Sequence[int], start: int, end: int) -> None:
        """Let a sequence's blocks from `start` to before `end` be found by their ids."""
        fill = self.gpu.fill
        fresh = [place for place in range(start, end) if fill(blocks[place], (domain, block_ids[place]))]
        if self._told:
            for _, run in groupby(enumerate(fresh), lambda each: each[1] - each[0]):
                places = [place for _, place in run]
                self._stored("gpu", domain, _parent(block_ids, places[0]), [block_ids[place] for place in places])
        if self._lower:
            self.lift([(domain, block_ids[place]) for place in fresh])
            for place in fresh:
                self._parents[domain, block_ids[place]] = _parent(block_ids, place)
            for tier, name in self._lifted:
                self._removed(tier, [name])
            self._lifted.clear()

    def tell(self, at_ms: float) -> list[CacheChange]:
        """Give what has changed since the last time, as of this time."""
        untold, self._untold = self._untold, []
        return [change._replace(at_ms=at_ms) for change in untold]

    def _tier_of(self, name: Name) -> Tier | None:
        return next((tier for tier, _, held in self._lower if name in held), None)

    def _sink(self, name: Name) -> None:
        # Stored below before it is removed above, so that whoever listens never misses the parent of what is left.
        tier: Tier = "gpu"
        for below, room, held in self._lower:
            held[name] = None
            self._stored(below, name[0], self._parents[name], [name[1]])
            self._removed(tier, [name])
            if len(held) <= room:
                return
            tier = below
            name, _ = held.popitem(last=False)
        self._removed(tier, [name])
        del self._parents[name]

    def _stored(self, tier: Tier, domain: int, parent: int | None, block_ids: Sequence[int]) -> None:
        if self._told:
            self._untold.append(CacheChange(0.0, True, tier, domain, parent, tuple(block_ids)))

    def _removed(self, tier: Tier, names: Sequence[Name]) -> None:
        if self._told:
            for domain, run in groupby(names, lambda name: name[0]):
                ids = tuple(block_id for _, block_id in run)
                self._untold.append(CacheChange(0.0, False, tier, domain, None, ids))


def _parent(block_ids: Sequence[int], place: int) -> int | None:
    return block_ids[place - 1] if place else None
