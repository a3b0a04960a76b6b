"""A prompt's leading blocks and their names: a prefix is hashed whole, then hidden under its domain's key."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from .keys import DomainKey

WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """Blocks up to and including number `until_block` lie in the domain of `key`."""

    key: DomainKey
    until_block: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt as the directory sees it: one little-endian uint32 a token, and the domains it passes through."""

    words: bytes
    block_tokens: int
    segments: Sequence[Segment]

    @property
    def blocks(self) -> int:
        """How many leading blocks can be reused; the last token is always computed."""
        tokens = len(self.words) // WORD_BYTES
        return max(0, tokens - 1) // self.block_tokens

    @property
    def start(self) -> "Mark":
        """Where hashing begins."""
        key = self.segment(1).key
        return Mark(self, 0, key, xxhash.xxh3_128(seed=key.seed))

    def name(self, depth: int) -> int:
        """The name of the first `depth` blocks, 1 to `blocks`; costs one pass over their words."""
        if not 1 <= depth <= self.blocks:
            raise ValueError(f"a depth is 1 to {self.blocks} blocks; got {depth}")
        return self.start.ahead(depth).name

    def segment(self, depth: int) -> Segment:
        """The segment that block number `depth` lies in."""
        for segment in self.segments:
            if depth <= segment.until_block:
                return segment
        raise ValueError(f"block {depth} lies behind the last segment")


class Mark:
    """How far a prompt is hashed. Going ahead costs a copied state and the words in between, none of them twice."""

    __slots__ = ("_prefix", "_state", "depth", "key")

    def __init__(self, prefix: Prefix, depth: int, key: DomainKey, state: xxhash.xxh3_128) -> None:
        self._prefix = prefix
        self._state = state
        self.depth = depth
        self.key = key

    @property
    def name(self) -> int:
        """The name of the blocks up to here."""
        return self.key.name(self._state.digest())

    def ahead(self, depth: int) -> "Mark":
        """The mark at a greater depth."""
        segments = self._prefix.segments
        key = segments[0].key if depth <= segments[0].until_block else self._prefix.segment(depth).key
        return self._under(key, depth)

    def names(self, until: int) -> list[int]:
        """The names of every depth behind this one, up to and including `until`; cheaper than one at a time."""
        found: list[int] = []
        mark = self
        while mark.depth < until:
            segment = self._prefix.segment(mark.depth + 1)
            mark = mark._under(segment.key, mark.depth)
            last = min(until, segment.until_block)
            words = self._words(mark.depth, last)
            found += mark.key.names(fingerprints(mark._state, words, self._prefix.block_tokens))
            mark.depth = last
        return found

    def _under(self, key: DomainKey, depth: int) -> "Mark":
        if key is self.key:
            state, begin = self._state.copy(), self.depth
        else:  # the fingerprints of another domain begin with another seed
            state, begin = xxhash.xxh3_128(seed=key.seed), 0
        state.update(self._words(begin, depth))
        return Mark(self._prefix, depth, key, state)  # type: ignore[arg-type]  # the stub of copy() says too little

    def _words(self, begin: int, end: int) -> memoryview:
        size = self._prefix.block_tokens * WORD_BYTES
        return memoryview(self._prefix.words)[begin * size : end * size]


class Chain:
    """Names the prefixes of a growing chain in one domain."""

    __slots__ = ("_state", "key")

    def __init__(self, key: DomainKey, words: bytes = b"") -> None:
        self.key = key
        self._state = xxhash.xxh3_128(words, seed=key.seed)

    def extend(self, words: bytes, block_tokens: int) -> list[int]:
        """Add whole blocks; return the name of the prefix that ends with each."""
        return self.key.names(fingerprints(self._state, words, block_tokens))


def fingerprints(state: xxhash.xxh3_128, words: bytes | memoryview, block_tokens: int) -> bytes:
    """Hash on, block by block: the 128 bits at the end of each, behind one another. `state` is moved along."""
    update, digest, found = state.update, state.digest, []
    for (block,) in struct.iter_unpack(f"{block_tokens * WORD_BYTES}s", words):
        update(block)
        found.append(digest())
    return b"".join(found)
