"""A replica's paged KV cache: who uses which block, what a free block still holds, and which one goes next.

As in vLLM: blocks are counted by their users; one without users keeps its content, and is found by it, until it is
the one freed longest ago when another is needed. A sequence frees its last block first, so a prefix outlives what
follows it. Content computed twice at a time lies in two blocks, and is gone with the second.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence

Name = tuple[int, int]  # domain, block id: the id stands for the whole prefix up to its block


class BlockCache:
    """Blocks are numbered from 0; names of evicted content gather in `evicted` until they are taken from there."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.evicted: list[Name] = []
        self._blank = list(range(blocks - 1, -1, -1))  # hold nothing
        self._free: OrderedDict[int, None] = OrderedDict()  # hold something, used by none; the next to go stands first
        self._users = [0] * blocks
        self._names: list[Name | None] = [None] * blocks
        self._found: dict[int, dict[int, int]] = {}  # domain -> block id -> the block that is found by it
        self._copies: dict[Name, list[int]] = {}  # further blocks of the same content, oldest first

    @property
    def free_blocks(self) -> int:
        """Blocks that can be taken, those that still hold something included."""
        return len(self._blank) + len(self._free)

    @property
    def used_blocks(self) -> int:
        """Blocks that have users."""
        return self.blocks - self.free_blocks

    def held(self) -> Iterator[Name]:
        """Give what can be found, each name once."""
        return ((domain, block_id) for domain, found in self._found.items() for block_id in found)

    def names(self, domain: int) -> Collection[int]:
        """Give the block ids of a domain that can be found. If one can, so can those before it in its prefix."""
        return self._found.get(domain, {}).keys()

    def users(self, domain: int, block_id: int) -> int:
        """Count the users of the block that is found by an id."""
        block = self._found.get(domain, {}).get(block_id)
        return 0 if block is None else self._users[block]

    def find(self, domain: int, block_ids: Iterable[int]) -> list[int]:
        """Give the blocks that hold the leading ids, as far as they can be found."""
        get = self._found.get(domain, {}).get
        blocks: list[int] = []
        for block_id in block_ids:
            block = get(block_id)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def used(self, blocks: Iterable[int], above: int = 0) -> int:
        """Count those of the blocks that have more users than that."""
        users = self._users
        return sum(1 for block in blocks if users[block] > above)

    def share(self, blocks: Iterable[int]) -> None:
        """Add a user to blocks that were found."""
        users, free = self._users, self._free
        for block in blocks:
            if not users[block]:
                del free[block]
            users[block] += 1

    def take(self, count: int) -> list[int]:
        """Give blocks that hold nothing to one user, evicting what was freed longest ago where none is blank."""
        assert count <= self.free_blocks
        blocks = []
        for _ in range(count):
            block = self._blank.pop() if self._blank else self._evict()
            self._users[block] = 1
            blocks.append(block)
        return blocks

    def fill(self, block: int, name: Name) -> bool:
        """Let a used block be found by its content; False: other blocks of that content are found before it."""
        assert self._users[block]
        assert self._names[block] is None
        self._names[block] = name
        found = self._found.setdefault(name[0], {})
        if name[1] in found:
            self._copies.setdefault(name, []).append(block)
            return False
        found[name[1]] = block
        return True

    def release(self, blocks: Sequence[int]) -> None:
        """Take one user away from each of a sequence's blocks, the last block first."""
        users, names, free = self._users, self._names, self._free
        for block in reversed(blocks):
            users[block] -= 1
            if not users[block]:
                if names[block] is None:
                    self._blank.append(block)
                else:
                    free[block] = None

    def _evict(self) -> int:
        block, _ = self._free.popitem(last=False)
        name = self._names[block]
        assert name is not None
        self._names[block] = None
        domain, block_id = name
        found = self._found[domain]
        others = self._copies.get(name)
        if others is None:
            del found[block_id]
            self.evicted.append(name)
            return block
        if found[block_id] == block:
            found[block_id] = others.pop(0)
        else:
            others.remove(block)
        if not others:
            del self._copies[name]
        return block
