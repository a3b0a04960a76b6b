"""The workload: a forest of prefixes that a fleet shares, and prompts whose overlap with it is known beforehand."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp, log
from random import Random

import numpy as np

from kvplane.directory import Prefix, Segment, domain_key

BLOCK_TOKENS = 16
SALT = "5a" * 32
KEY = domain_key(SALT, "bench", "", BLOCK_TOKENS)

_VOCABULARY = 128_000
_ROOT_BLOCKS = 8  # a system prompt of 128 tokens
_CHAIN_BLOCKS = (8, 64)
_CHAINS_A_REPLICA = 16  # at least so many fill a replica
_LEVELS = 4  # of the forest
_MEDIAN_HOLDERS = 3
_FRESH = 7  # sets these seeds apart from a forest's own
_PAD = bytes(4)  # a prompt's last token is always computed, so a block counts only with a token behind it


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive blocks behind one parent, and the replicas that hold all of them. `parent`: its name, if any."""

    parent: int | None
    names: Sequence[int]
    words: bytes
    replicas: Sequence[int]

    @property
    def placed(self) -> int:
        return len(self.names) * len(self.replicas)


@dataclass(frozen=True)
class Prompt:
    """What is asked, what a forest needs beside its root for that, and the answer: blocks per replica, all told."""

    words: bytes
    stretches: Sequence[Stretch]
    extents: Mapping[int, int]

    @cached_property
    def token_ids(self) -> list[int]:
        """What the peers are asked with; as ready as `words` are."""
        return list(struct.unpack(f"<{len(self.words) // 4}I", self.words))


@dataclass(frozen=True, slots=True)
class Forest:
    """At least `blocks` placed blocks, on `replicas` replicas; the same for the same seed."""

    replicas: int
    blocks: int
    seed: int = 1

    def stretches(self) -> Iterator[Stretch]:
        """The root, held by all; behind it chains, each on replicas that hold the chain before it."""
        random, load = Random(self.seed), [0] * self.replicas
        chains = [_Chain(b"", self._root_words, range(self.replicas), 1)]
        yield stretch(b"", chains[0].words, chains[0].replicas)
        for number, holders in enumerate(self._holders(), 1):
            parent = random.choice(chains)
            if parent.level == _LEVELS:
                parent = chains[0]
            words = _words((self.seed, number), self._chain_blocks)
            drawn = random.sample(parent.replicas, min(2 * holders, len(parent.replicas)))
            replicas = sorted(drawn, key=load.__getitem__)[:holders]  # else some would hold ten times what others do
            for replica in replicas:
                load[replica] += 1
            chain = _Chain(parent.path, words, replicas, parent.level + 1)
            chains.append(chain)
            yield stretch(chain.before, chain.words, chain.replicas)

    def prompt(self, tokens: int, cached_percent: int, extents: int, number: int) -> Prompt | None:
        """Prompt `number` of its kind; None if so many distinct extents cannot be.

        Three replicas hold all that is cached, ever more hold less and less of it, and all hold the root; depths are
        drawn evenly by their logarithm. With one extent three hold it and nobody else has anything.
        """
        kind = (self.seed, tokens, cached_percent, extents, number)
        random = Random(repr(kind))
        cached = (tokens - 1) // BLOCK_TOKENS * cached_percent // 100
        depths = _depths(cached, extents, random)
        if depths is None or extents > self.replicas:
            return None
        words = _words(kind, tokens // BLOCK_TOKENS)
        if extents > 1:
            words = self._root_words + words[len(self._root_words) :]
        held = self._held(depths, random)
        stretches = [
            stretch(_blocks(words, 0, begin), _blocks(words, begin, end), [r for r in held if held[r] >= end])
            for begin, end in pairwise((0, *depths) if extents == 1 else depths)
        ]
        return Prompt(words, stretches, held)

    @property
    def _chain_blocks(self) -> int:
        low, high = _CHAIN_BLOCKS
        return min(high, max(low, self.blocks // self.replicas // _CHAINS_A_REPLICA))

    @property
    def _root_words(self) -> bytes:
        return _words((self.seed, 0), _ROOT_BLOCKS)

    def _holders(self) -> Sequence[int]:
        """How many hold each chain, most first: Zipf by rank, from all replicas down, with a median of three."""
        wanted = self.blocks // self._chain_blocks
        low, high = 3, wanted + 3
        while low < high:
            middle = (low + high) // 2
            if int(self._ranked(middle).sum()) < wanted:
                low = middle + 1
            else:
                high = middle
        return [int(holders) for holders in self._ranked(low)]

    def _ranked(self, chains: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        exponent = log(max(1.0, self.replicas / _MEDIAN_HOLDERS)) / log(max(2.0, chains / 2))
        ranks = np.arange(1, chains + 1, dtype=np.float64)
        return np.maximum(1, np.rint(self.replicas * ranks**-exponent)).astype(np.int64)

    def _held(self, depths: Sequence[int], random: Random) -> Mapping[int, int]:
        """Blocks per replica; `depths` rise."""
        order = random.sample(range(self.replicas), self.replicas)
        held: dict[int, int] = {}
        for blocks, holders in zip(reversed(depths), self._widths(len(depths)), strict=True):
            held.update(dict.fromkeys(order[len(held) : holders], blocks))
        return held

    def _widths(self, extents: int) -> Sequence[int]:
        """How many hold each extent, deepest first: three, and by equal steps of its logarithm ever more up to all."""
        first = min(_MEDIAN_HOLDERS, self.replicas - max(0, extents - 1))
        step = (self.replicas / first) ** (1 / max(1, extents - 1))
        widths: list[int] = []
        for number in range(extents):
            least, most = number + first, self.replicas - (extents - 1 - number)  # each more than the one before
            widths.append(min(most, max(least, round(first * step**number))))
        return widths


@dataclass(frozen=True, slots=True)
class _Chain:
    before: bytes
    words: bytes
    replicas: Sequence[int]
    level: int

    @property
    def path(self) -> bytes:
        return self.before + self.words


def stretch(before: bytes, words: bytes, replicas: Sequence[int]) -> Stretch:
    """Name the blocks of `words`, which follow on those of `before`."""
    path = before + words
    begin, end = len(before) // (BLOCK_TOKENS * 4), len(path) // (BLOCK_TOKENS * 4)
    prefix = Prefix(path + _PAD, BLOCK_TOKENS, (Segment(KEY, end),))
    mark = prefix.start.ahead(begin)
    return Stretch(mark.name if begin else None, mark.names(end), words, replicas)


def placed(stretches: Iterable[Stretch]) -> int:
    """How many blocks they place."""
    return sum(stretch.placed for stretch in stretches)


def last_quarter(stretches: Sequence[Stretch]) -> Sequence[Stretch]:
    """The last chains: no chain before them goes on from them, so without them holdings are still closed."""
    wanted, found = placed(stretches) // 4, []
    for stretch in reversed(stretches):
        if wanted <= 0:
            break
        found.append(stretch)
        wanted -= stretch.placed
    return found[::-1]


def fresh(number: int, blocks: int) -> Stretch:
    """Chain `number` of those that no forest holds, opening a prompt, held by nobody yet."""
    return stretch(b"", _words((number, blocks, _FRESH), blocks), ())


def _depths(cached: int, extents: int, random: Random) -> Sequence[int] | None:
    """So many distinct depths that the deepest is `cached` and, among several, the shallowest the root; rising."""
    if not cached or not extents:
        return () if cached == extents else None
    if extents == 1:
        return (cached,)
    if cached - _ROOT_BLOCKS + 1 < extents:
        return None
    found = {_ROOT_BLOCKS, cached}
    while len(found) < extents:
        found.add(int(exp(random.uniform(log(_ROOT_BLOCKS), log(cached)))))
    return sorted(found)


def _words(seed: Sequence[int], blocks: int) -> bytes:
    generator = np.random.default_rng(seed)
    return generator.integers(_VOCABULARY, size=blocks * BLOCK_TOKENS, dtype=np.uint32).astype("<u4").tobytes()


def _blocks(words: bytes, begin: int, end: int) -> bytes:
    return words[begin * BLOCK_TOKENS * 4 : end * BLOCK_TOKENS * 4]
