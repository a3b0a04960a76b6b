"""A prompt's leading blocks and their names: a prefix is hashed whole, then hidden under its domain's key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import xxhash

from .keys import DomainKey

WORD_BYTES = 4


class Hasher(Protocol):
    """A running hash; xxhash has no public type for all that its states share."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def copy(self) -> "Hasher": ...


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
        return self.begin(self.segment(1))

    def begin(self, segment: Segment) -> "Mark":
        """Where hashing begins for the names of one segment."""
        state = xxhash.xxh3_128(seed=segment.key.seed)
        return Mark(self, segment, memoryview(self.words), self.block_tokens * WORD_BYTES, 0, state)

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


class Mark(msgspec.Struct, eq=False, gc=False):
    """How far a prompt is hashed. Going ahead costs a copied state and the words in between, none of them twice."""

    prefix: Prefix
    segment: Segment
    words: memoryview
    block_bytes: int
    depth: int
    state: Hasher

    @property
    def name(self) -> int:
        """The name of the blocks up to here."""
        return self.segment.key.name(self.state.digest())

    def ahead(self, depth: int) -> "Mark":
        """The mark at a greater depth."""
        prefix, segment, words, size = self.prefix, self.segment, self.words, self.block_bytes
        if depth > segment.until_block:  # the fingerprints of another domain begin with another seed
            return prefix.begin(prefix.segment(depth)).ahead(depth)
        state = self.state.copy()
        state.update(words[self.depth * size : depth * size])
        return Mark(prefix, segment, words, size, depth, state)

    def names(self, until: int) -> list[int]:
        """The names of every depth behind this one, up to and including `until`; cheaper than one at a time."""
        segment, size = self.segment, self.block_bytes
        if self.depth < segment.until_block:
            state = self.state.copy()
        else:
            segment = self.prefix.segment(self.depth + 1)
            state = xxhash.xxh3_128(self.words[: self.depth * size], seed=segment.key.seed)
        last = min(until, segment.until_block)
        found = segment.key.names(fingerprints(state, self.words[self.depth * size : last * size], size))
        return found if last == until else found + self.ahead(last).names(until)


class Chain:
    """Names the prefixes of a growing chain in one domain."""

    __slots__ = ("_state", "key")

    def __init__(self, key: DomainKey, words: bytes = b"") -> None:
        self.key = key
        self._state = xxhash.xxh3_128(words, seed=key.seed)

    def extend(self, words: bytes, block_tokens: int) -> list[int]:
        """Add whole blocks; return the name of the prefix that ends with each."""
        return self.key.names(fingerprints(self._state, words, block_tokens * WORD_BYTES))


def fingerprints(state: Hasher, words: bytes | memoryview, block_bytes: int) -> bytes:
    """Hash on, block by block: the 128 bits at the end of each, behind one another. `state` is moved along."""
    update, digest, found = state.update, state.digest, []
    for begin in range(0, len(words), block_bytes):
        update(words[begin : begin + block_bytes])
        found.append(digest())
    return b"".join(found)
