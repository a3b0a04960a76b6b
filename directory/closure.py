"""A holder's own tree of blocks, closed under prefixes: what may be promised, and at which level."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import repeat
from struct import unpack
from typing import Literal
from weakref import WeakValueDictionary

from .blocks import Block, Tree
from .counts import ALL, GONE, ONE, nearest
from .digest import Digest
from .ids import DomainTag, Level
from .keys import DomainKey
from .names import Moved, Names, Standing
from .prefix import WORD_BYTES
from .windows import Windows, all_known
from .wire import Changes

Tier = Literal["gpu", "cpu", "disk"]

_TIERS = {"gpu": 1, "cpu": 2, "disk": 3}  # counted like levels
_STEP_BLOCKS = 256  # two milliseconds
_SALTS = 1024  # whose keys are kept at hand: deriving one costs as much as naming fifty blocks


class Closure:
    """Turns an engine's events into absolute changes of names.

    A block's level is the greatest, that is the furthest, among its own nearest tier and those of all blocks before
    it. So an evicted inner block withdraws its descendants, and its return restores them. What it keeps is bounded by
    what the engine holds, at about 400 bytes a block (`blocks.py`). Of a hybrid model these are the blocks of layers
    that look back at all; where the others can go on is told beside (`windows.py`).
    """

    def __init__(self, key_of: Callable[[str], DomainKey], block_tokens: int) -> None:
        self._key_of = lru_cache(_SALTS)(key_of)
        self._block_tokens = block_tokens
        self._tree = Tree()
        self._windows = Windows(self._tree)
        self._changed: list[Names] = []
        self._domains: WeakValueDictionary[DomainTag, Names] = WeakValueDictionary()  # as long as a block is in them
        self._digest = Digest()

    @property
    def blocks(self) -> int:
        """How many names are usable, at any level."""
        return sum(names.usable for names in self._domains.values())

    @property
    def digest(self) -> bytes:
        """What the whole holding comes to, what is yet to be drained included: 48 bytes; costs what is undrained."""
        if not self._changed:
            return bytes(self._digest)
        digest = deepcopy(self._digest)
        _fold(digest, self._undrained())
        return bytes(digest)

    def store(
        self, hashes: Sequence[Hashable], parent: Hashable | None, words: bytes, tier: Tier, salt: str | None
    ) -> None:
        """Count one more copy of consecutive blocks in a tier.

        `parent` None opens a prompt. A block whose parent, salt or words are not known yet counts, and waits
        unnamed. Words that do not fit the hashes are taken as not known.
        """
        names = None if salt is None else self._domain(salt)
        size = self._block_tokens * WORD_BYTES
        if not 0 < len(words) == size * len(hashes):
            pieces: Sequence[bytes] = [b""] * len(hashes)
        else:
            pieces = unpack(f"{size}s" * len(hashes), words)
            if self._extend(hashes, parent, words, pieces, _TIERS[tier], names):
                return
        for engine_hash, piece in zip(hashes, pieces, strict=True):
            self._store(engine_hash, parent, piece, _TIERS[tier], names)
            parent = engine_hash

    def remove(self, hashes: Iterable[Hashable], tier: Tier) -> None:
        """Count one copy less in a tier for each mention; unknown blocks are fine."""
        known, one, every = self._tree.known, ONE[_TIERS[tier]], ALL[_TIERS[tier]]
        for engine_hash in hashes:
            block = known.get(engine_hash)
            if block is not None and block.copies & every:
                block.copies -= one
                self._relevel(block)
                if not block.copies:
                    forgotten = self._tree.forget(engine_hash, block)
                    if self._windows:
                        self._windows.touch(forgotten)

    def store_windows(self, hashes: Sequence[Hashable], group: int, reach: int, tier: Tier) -> None:
        """Count one more copy in a tier, in a group of layers that looks back `reach` blocks."""
        self._learn(group, reach)
        self._windows.store(hashes, group, _TIERS[tier])

    def remove_windows(self, hashes: Sequence[Hashable], group: int, tier: Tier) -> None:
        """Count one copy less in such a group for each mention; unknown blocks and groups are fine."""
        self._windows.remove(hashes, group, _TIERS[tier])

    def clear(self) -> None:
        """Every block of every tier is gone."""
        for names in list(self._domains.values()):
            names.clear()
        self._tree = Tree()
        self._windows = self._windows.emptied(self._tree)

    def drain(self) -> tuple[Changes, ...]:
        """What may have changed since the last drain: each name once, at its present level.

        Told even if it is back where it was: a checkpoint in between may have said otherwise.
        """
        self._windows.settle()
        told = [(names.key.tag, names.tell()) for names in self._changed]
        self._changed.clear()
        _fold(self._digest, (moved for _, domain in told for moved in domain))
        return tuple(change for tag, domain in told for change in _changes(tag, (moved.now for moved in domain)))

    def holding(self) -> tuple[Changes, ...]:
        """The whole holding; what is yet to be drained stays so."""
        self._windows.settle()
        return tuple(change for tag, names in self._domains.items() for change in _changes(tag, names.holding()))

    def reconcile(self, holding: Iterable[Changes]) -> bool:
        """Set the digest right by the whole holding; False if it is right."""
        digest = Digest()
        for change in holding:
            digest.add(Level(change.level), change.names)
        if bytes(digest) == self.digest:
            return False
        _fold(digest, (Moved(now.level, now._replace(level=before)) for before, now in self._undrained()))
        self._digest = digest
        return True

    def take_over(self, other: "Closure") -> Iterator[None]:
        """Come to hold what another one does, some blocks a step, under keys of its own.

        From the first step on both are to be told of every event; what was copied too early is as good.
        """
        for number, reach, copies in other._windows.copies():
            self._learn(number, reach)
            self._windows.take(number, copies)
        hashes = [each for each in other._tree.known if each is not None]
        for at in range(0, len(hashes), _STEP_BLOCKS):
            for engine_hash in hashes[at : at + _STEP_BLOCKS]:
                self._take(other._tree.known, engine_hash)
            yield

    def _take(self, theirs: Mapping[Hashable | None, Block], engine_hash: Hashable) -> None:
        """Copy a block, and before it those that hold its place and are not here; most of them have no copy."""
        block = theirs.get(engine_hash)
        if block is None or not block.copies:
            return
        path = {engine_hash: block}
        while block.words and block.parent is not None and block.parent not in path:
            above = self._tree.known.get(block.parent)
            if above is not None and above.words:
                break
            engine_hash, block = block.parent, theirs[block.parent]
            path[engine_hash] = block
        for engine_hash, block in reversed(path.items()):
            self._copy(engine_hash, block)

    def _copy(self, engine_hash: Hashable, theirs: Block) -> None:
        block = self._tree.block(engine_hash)
        if theirs.words:
            self._tree.place(engine_hash, block, theirs.parent, theirs.words)
            if theirs.names is not None:
                block.names = block.names or self._domain(theirs.names.salt)
            if block.name is None:
                self._name(engine_hash)
        block.copies = theirs.copies
        self._relevel(block)

    def _extend(
        self,
        hashes: Sequence[Hashable],
        parent: Hashable | None,
        words: bytes,
        pieces: Sequence[bytes],
        tier: int,
        names: Names | None,
    ) -> bool:
        """Take in a run that was never seen before, behind a named block, at once; False if it is not such a run.

        It says what `_store` would say block by block, at a tenth of the cost.
        """
        known = self._tree.known
        above = known.get(parent)
        if above is None or above.name is None:
            return False
        names = names or above.names
        if names is None or len(set(hashes)) < len(hashes) or not known.keys().isdisjoint(hashes):
            return False
        level = max(tier, above.level)
        chain = self._tree.chain(above, names)
        values = chain.extend(words, self._block_tokens)
        if level < GONE:
            names.add(values, level)
        above.adopt(hashes[0])
        parents, children = (parent, *hashes), (*hashes[1:], None)
        alike = repeat(names), repeat(level), repeat(ONE[tier])
        known.update(zip(hashes, map(Block, parents, children, pieces, values, *alike), strict=True))
        known[hashes[-1]].chain = chain
        if self._windows:
            self._windows.touch(hashes)
        return True

    def _store(
        self, engine_hash: Hashable, parent: Hashable | None, words: bytes, tier: int, names: Names | None
    ) -> None:
        block = self._tree.block(engine_hash)
        block.copies += ONE[tier]
        if words:
            self._tree.place(engine_hash, block, parent, words)
            block.names = block.names or names
            if block.name is None:
                self._name(engine_hash)
        self._relevel(block)

    def _learn(self, group: int, reach: int) -> None:
        if self._windows.learn(group, reach):
            for names in self._domains.values():
                names.look_back()
            self._windows.touch(all_known(self._tree))

    def _domain(self, salt: str) -> Names:
        key = self._key_of(salt)
        names = self._domains.get(key.tag)
        if names is None:
            names = self._domains[key.tag] = Names(key, self._changed, salt)
            if self._windows:
                names.look_back()
        return names

    def _name(self, engine_hash: Hashable) -> None:
        """Name a block, and those behind it that waited for it."""
        waiting, named = [engine_hash], []
        while waiting:
            engine_hash = waiting.pop()
            block = self._tree.known[engine_hash]
            above = self._tree.known[block.parent]
            names = block.names = block.names or above.names
            if above.name is None or names is None:
                continue
            block.chain = self._tree.chain(above, names)
            (block.name,) = block.chain.extend(block.words, self._block_tokens)
            self._relevel(block)
            named.append(engine_hash)
            waiting.extend(self._tree.heirs(block))
        if self._windows:
            self._windows.touch(named)

    def _undrained(self) -> Iterable[Moved]:
        return (moved for names in self._changed for moved in names.moved())

    def _relevel(self, block: Block) -> None:
        """Let a block, and what lies behind it, stand where its copies and its parent's level put it."""
        stale = [block]
        while stale:
            block = stale.pop()
            if block.names is None or block.name is None:
                continue
            level = nearest(block.copies)
            if level < GONE:
                level = max(level, self._tree.known[block.parent].level)
            if level != block.level:
                block.names.move(block.name, block.level, level)
                block.level = level
                if block.child is not None:
                    stale.extend(self._tree.children(block))


def _fold(digest: Digest, moved: Iterable[Moved]) -> None:
    """All domains at once: a digest's cost is by the call."""
    gone: dict[Level, list[bytes]] = defaultdict(list)
    come: dict[Level, list[bytes]] = defaultdict(list)
    for before, now in moved:
        gone[before].append(now.names)
        come[now.level].append(now.names)
    for level, parts in gone.items():
        digest.remove(level, b"".join(parts))
    for level, parts in come.items():
        digest.add(level, b"".join(parts))


def _changes(tag: DomainTag, names: Iterable[Standing]) -> Iterable[Changes]:
    """One for each level, and for each at which windows stand."""
    packed: dict[tuple[Level, Level | None], list[bytes]] = defaultdict(list)
    for level, part, resume in names:
        packed[level, resume].append(part)
    return (
        Changes(tag, int(level), b"".join(parts), None if resume is None else int(resume))
        for (level, resume), parts in packed.items()
    )
