"""A holder's own tree of blocks, closed under prefixes: what may be promised, and at which level."""

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal

from .ids import DomainTag, Level
from .keys import DomainKey
from .prefix import WORD_BYTES, Chain
from .wire import Changes

_TIERS = {"gpu": 0, "cpu": 1, "disk": 2}
_GONE = len(_TIERS) + 1  # one level beyond the last: the greater of two levels is the one that counts


class Closure:
    """Turns an engine's events into absolute changes of names.

    A block's level is the greatest, that is the furthest, among its own nearest tier and those of all blocks before
    it. So an evicted inner block withdraws its descendants, and its return restores them.
    """

    def __init__(self, key_of: Callable[[str], DomainKey], block_tokens: int) -> None:
        self._key_of = key_of
        self._block_bytes = block_tokens * WORD_BYTES
        self._root = _root()
        self._known: dict[Hashable, _Block] = {}
        self._names: dict[int, _Name] = {}
        self._pending: dict[int, _Name] = {}
        self._usable = 0

    @property
    def blocks(self) -> int:
        """How many names are usable, at any level."""
        return self._usable

    def store(
        self,
        hashes: Sequence[Hashable],
        parent: Hashable | None,
        words: bytes,
        tier: Literal["gpu", "cpu", "disk"],
        salt: str | None,
    ) -> None:
        """Count one more copy of consecutive blocks in a tier.

        `parent` None opens a prompt. A block whose parent, salt or words are not known yet counts, and waits
        unnamed. Words that do not fit the hashes are taken as not known.
        """
        size = self._block_bytes
        fits = 0 < len(words) == size * len(hashes)
        key = None if salt is None else self._key_of(salt)
        above = self._root if parent is None or not fits else self._block(parent)
        for index, engine_hash in enumerate(hashes):
            block = self._block(engine_hash)
            block.copies[_TIERS[tier]] += 1
            if fits:
                self._place(block, above, words[index * size : (index + 1) * size], key)
            self._relevel(block)
            above = block

    def remove(self, hashes: Iterable[Hashable], tier: Literal["gpu", "cpu", "disk"]) -> None:
        """Count one copy less in a tier for each mention; unknown blocks are fine."""
        for engine_hash in hashes:
            block = self._known.get(engine_hash)
            if block is not None and block.copies[_TIERS[tier]]:
                block.copies[_TIERS[tier]] -= 1
                self._relevel(block)
                self._forget(block)

    def clear(self) -> None:
        """Every block of every tier is gone."""
        self._root = _root()
        self._known.clear()
        for name in self._names.values():
            name.holders = [0] * len(_TIERS)
        self._pending.update(self._names)
        self._usable = 0

    def drain(self) -> tuple[Changes, ...]:
        """What may have changed since the last drain: each name once, at its present level.

        Told even if it is back where it was: a checkpoint in between may have said otherwise.
        """
        changed = _packed(self._pending.items())
        for value, name in self._pending.items():
            if not name.level:
                del self._names[value]
        self._pending.clear()
        return changed

    def holding(self) -> tuple[Changes, ...]:
        """The whole holding; what is yet to be drained stays so."""
        return _packed((value, name) for value, name in self._names.items() if name.level)

    def _block(self, engine_hash: Hashable) -> "_Block":
        block = self._known.get(engine_hash)
        if block is None:
            block = self._known[engine_hash] = _Block(engine_hash)
        return block

    def _place(self, block: "_Block", parent: "_Block", words: bytes, key: DomainKey | None) -> None:
        """Learn where a block stands. What is known of a hash stays: the engine's hash covers all of it."""
        if block.parent is None:
            block.parent, block.words = parent, words
            parent.children[block.hash] = block
        if block.key is None:
            block.key = key
        if block.name is None:
            self._name(block)

    def _name(self, block: "_Block") -> None:
        """Name a block, and those behind it that waited for it."""
        waiting = [block]
        while waiting:
            block = waiting.pop()
            parent = block.parent
            assert parent is not None, "a block is placed before it is named"
            block.key = block.key or parent.key
            if parent.name is None or block.key is None:
                continue
            chain = self._chain(parent, block.key)
            (block.name,), block.chain = chain.extend(block.words, len(block.words) // WORD_BYTES), chain
            self._relevel(block)
            waiting.extend(block.children.values())

    def _chain(self, tip: "_Block", key: DomainKey) -> Chain:
        """The running hash of all words up to `tip`: its own if no other child took it, else computed anew."""
        chain = tip.chain
        if chain is not None and chain.key == key:
            tip.chain = None
            return chain
        words = []
        while tip.parent is not None:
            words.append(tip.words)
            tip = tip.parent
        return Chain(key, b"".join(reversed(words)))

    def _relevel(self, block: "_Block") -> None:
        stale = [block]
        while stale:
            block = stale.pop()
            level = _GONE if block.name is None or block.parent is None else max(block.tier, block.parent.level)
            if level != block.level:
                self._move(block, level)
                stale.extend(block.children.values())

    def _move(self, block: "_Block", level: int) -> None:
        assert block.name is not None, "only a named block has a level"
        assert block.key is not None, "a block is named under a key"
        name = self._names.get(block.name)
        if name is None:
            name = self._names[block.name] = _Name(block.key.tag)
        before = name.level
        if block.level != _GONE:
            name.holders[block.level - 1] -= 1
        if level != _GONE:
            name.holders[level - 1] += 1
        block.level = level
        self._usable += bool(name.level) - bool(before)
        self._pending[block.name] = name

    def _forget(self, block: "_Block") -> None:
        """A block with no copy and no child says nothing more; its parent may have waited only for it."""
        while block is not self._root and not any(block.copies) and not block.children:
            del self._known[block.hash]
            parent = block.parent
            if parent is None:
                return
            del parent.children[block.hash]
            block = parent


class _Block:
    """One engine hash: its copies per tier, and its place in the tree as far as it is known."""

    __slots__ = ("chain", "children", "copies", "hash", "key", "level", "name", "parent", "words")

    def __init__(self, engine_hash: Hashable) -> None:
        self.hash = engine_hash
        self.parent: _Block | None = None
        self.children: dict[Hashable, _Block] = {}
        self.copies = [0] * len(_TIERS)
        self.words = b""
        self.key: DomainKey | None = None
        self.name: int | None = None
        self.level = _GONE
        self.chain: Chain | None = None

    @property
    def tier(self) -> int:
        """The nearest tier with a copy, counted from one like a level."""
        return next((index for index, copies in enumerate(self.copies, 1) if copies), _GONE)


class _Name:
    """One name, and how many engine hashes stand behind it at each level; several engine hashes may share a name."""

    __slots__ = ("holders", "tag")

    def __init__(self, tag: DomainTag) -> None:
        self.tag = tag
        self.holders = [0] * len(_TIERS)

    @property
    def level(self) -> Level:
        return next((Level(index) for index, holders in enumerate(self.holders, 1) if holders), Level.NONE)


def _root() -> _Block:
    """What stands before every prompt: always there, nearer than any tier."""
    root = _Block(None)
    root.name, root.level = 0, 0
    return root


def _packed(names: Iterable[tuple[int, _Name]]) -> tuple[Changes, ...]:
    groups: dict[tuple[DomainTag, Level], array[int]] = {}
    for value, name in names:
        groups.setdefault((name.tag, name.level), array("Q")).append(value)
    return tuple(Changes(tag, int(level), values.tobytes()) for (tag, level), values in groups.items())
