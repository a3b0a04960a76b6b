"""A prompt's leading blocks and their names: a prefix is hashed whole, then hidden under its domain's key."""

import hashlib
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

    def name(self, depth: int) -> int:
        """The 64-bit name of the first `depth` blocks, 1 to `blocks`; costs one pass over their words."""
        if not 1 <= depth <= self.blocks:
            raise ValueError(f"a depth is 1 to {self.blocks} blocks; got {depth}")
        end = depth * self.block_tokens * WORD_BYTES
        key = self._key(depth)
        return _name(xxhash.xxh3_128_digest(memoryview(self.words)[:end], key.seed), key)

    def _key(self, depth: int) -> DomainKey:
        for segment in self.segments:
            if depth <= segment.until_block:
                return segment.key
        raise ValueError(f"block {depth} lies behind the last segment")


class Chain:
    """Names the prefixes of a growing chain in one domain: one update and one digest a block."""

    __slots__ = ("_state", "key")

    def __init__(self, key: DomainKey, words: bytes = b"") -> None:
        self.key = key
        self._state = xxhash.xxh3_128(words, seed=key.seed)

    def extend(self, words: bytes) -> int:
        """Add one block's words; return the name of the prefix that ends with it."""
        self._state.update(words)
        return _name(self._state.digest(), self.key)


def _name(fingerprint: bytes, key: DomainKey) -> int:
    """xxh3 is fast and no secret keeper; BLAKE2b over its 128 bits makes the name unguessable without the key."""
    return int.from_bytes(hashlib.blake2b(fingerprint, key=key.prf, digest_size=8).digest(), "little")
