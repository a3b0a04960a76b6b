"""The blocks of an engine's cache as a tree: how many copies each has, and its place as far as it is known."""

from collections.abc import Hashable, Iterator

import msgspec

from .counts import GONE
from .names import Names
from .prefix import Chain


class Block(msgspec.Struct, eq=False, gc=False):
    """What is known of one engine hash: about 400 bytes with hash, words and name, and 700 more at the tip of a run.

    Other blocks are referred to by their hashes: there are no circles, so the garbage collector need not look at a
    million blocks, and no chain of references whose end would be a recursion as deep as the longest prompt.
    """

    parent: Hashable | None = None
    child: Hashable | None = None  # the first one; nearly all blocks have one or none
    words: bytes = b""  # empty: its place is not known
    name: int | None = None
    names: Names | None = None
    level: int = GONE
    copies: int = 0  # by tier, packed (`counts.py`)
    siblings: set[Hashable] | None = None  # of the first child
    chain: Chain | None = None  # all words up to here, hashed; the first child takes it along

    def adopt(self, child: Hashable) -> None:
        if self.child is None:
            self.child = child
        elif self.siblings is None:
            self.siblings = {child}
        else:
            self.siblings.add(child)

    def abandon(self, child: Hashable) -> None:
        if self.child != child:
            assert self.siblings is not None, "a child was adopted"
            self.siblings.remove(child)
        else:
            self.child = self.siblings.pop() if self.siblings else None


class Tree:
    """All blocks by the engine's hash. What stands before every prompt is there as None: nearer than any tier."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[Hashable, Block] = {None: Block(name=0, level=0)}

    def block(self, engine_hash: Hashable) -> Block:
        """The block of a hash, which is made if it is not known."""
        block = self.known.get(engine_hash)
        if block is None:
            block = self.known[engine_hash] = Block()
        return block

    def place(self, engine_hash: Hashable, block: Block, parent: Hashable | None, words: bytes) -> None:
        """Learn where a block stands. What is known of a hash stays: the engine's hash covers all of it."""
        if not block.words:
            block.parent, block.words = parent, words
            self.block(parent).adopt(engine_hash)

    def children(self, block: Block) -> Iterator[Block]:
        return map(self.known.__getitem__, self.heirs(block))

    def heirs(self, block: Block) -> Iterator[Hashable]:
        """The hashes of the children."""
        if block.child is not None:
            yield block.child
        yield from block.siblings or ()

    def chain(self, tip: Block, names: Names) -> Chain:
        """The running hash of all words up to `tip`: its own if no other child took it, else computed anew."""
        chain = tip.chain
        if chain is not None and tip.names is names:
            tip.chain = None
            return chain
        words = []
        while tip.words:  # all but the root have some
            words.append(tip.words)
            tip = self.known[tip.parent]
        return Chain(names.key, b"".join(reversed(words)))

    def forget(self, engine_hash: Hashable | None, block: Block) -> list[Hashable]:
        """A block with no copy and no child says nothing more; its parent may have waited only for it.

        Returns the hashes that are not known any more.
        """
        forgotten: list[Hashable] = []
        while engine_hash is not None and not block.copies and block.child is None:
            del self.known[engine_hash]
            forgotten.append(engine_hash)
            if not block.words:
                break
            child, engine_hash = engine_hash, block.parent
            block = self.known[engine_hash]
            block.abandon(child)
        return forgotten
