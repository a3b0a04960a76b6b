"""What one engine's cache can be used for, worked out the slow and obvious way from all that it ever told."""

from collections import Counter, defaultdict
from collections.abc import Collection

from kvplane.workers.engine import BlockHash, Cleared, EngineEvent, Removed, Stored

Extents = tuple[int, int, int]

_LEVELS = (("gpu",), ("gpu", "cpu"), ("gpu", "cpu", "disk"))


class Oracle:
    """Knows every block, forgets none until all are cleared, and answers by walking a prompt block by block."""

    def __init__(self, block_tokens: int) -> None:
        self._size = 4 * block_tokens
        self._copies = Counter[tuple[str, BlockHash]]()
        self._words: dict[BlockHash, bytes] = {}
        self._salts: dict[BlockHash, str] = {}
        self._behind = defaultdict[BlockHash | None, list[BlockHash]](list)

    def note(self, event: EngineEvent) -> None:
        match event:
            case Stored():
                self._store(event)
            case Removed():
                for block in event.hashes:
                    self._copies[event.tier, block] = max(0, self._copies[event.tier, block] - 1)
            case Cleared():
                for known in (self._copies, self._words, self._salts, self._behind):
                    known.clear()

    def extents(self, words: bytes, salt: str) -> Extents:
        """Leading blocks of a prompt that can be used from gpu, from gpu or cpu, from any tier."""
        most = max(0, len(words) - 4) // self._size  # the last token is always computed
        blocks = [words[at * self._size : (at + 1) * self._size] for at in range(most)]
        gpu, cpu, disk = (self._extent(blocks, salt, tiers) for tiers in _LEVELS)
        return gpu, cpu, disk

    def _store(self, event: Stored) -> None:
        size, parent = self._size, event.parent
        for index, block in enumerate(event.hashes):
            self._copies[event.tier, block] += 1
            if event.words and block not in self._words:
                self._words[block] = event.words[index * size : (index + 1) * size]
                self._behind[parent].append(block)
            if event.salt is not None:
                self._salts.setdefault(block, event.salt)
            parent = block

    def _extent(self, blocks: Collection[bytes], salt: str, tiers: Collection[str]) -> int:
        standing = [block for block in self._behind[None] if self._salts.get(block) == salt]
        for depth, words in enumerate(blocks):
            usable = [
                block
                for block in standing
                if self._words[block] == words and any(self._copies[tier, block] for tier in tiers)
            ]
            if not usable:
                return depth
            standing = [child for block in usable for child in self._behind[block]]
        return len(blocks)
