"""The answer to a look-up: who can reuse how much of one prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import msgspec
import numpy as np
from numpy.typing import NDArray

from .ids import LEVELS, HolderId, Level
from .masks import ALL, WIDTH, every

_FEW = 12  # bits that are found faster one by one
_DIGITS = bytes(digit & 1 for digit in range(256))  # b"0" and b"1" to the numbers they are


@dataclass(frozen=True, slots=True)
class Run:
    """The holders whose extent is exactly `blocks`."""

    blocks: int
    holders: frozenset[HolderId]


class Overlap(msgspec.Struct, frozen=True):
    """Each depth at which somebody's extent ends, deepest first, with the bits (`masks.py`) that end there.

    Bits are turned into holders only for who asks. Whoever is in none of them can reuse at most `bound` blocks,
    which is 0 where the answer is exact for all.
    """

    ends: Sequence[tuple[int, int]]
    slots: Sequence[HolderId | None]  # who has slot number 0, 1, ...
    bound: int = 0

    @property
    def runs(self) -> Mapping[Level, Sequence[Run]]:
        """Runs of (blocks, holders), deepest first, per level; who is in none of a level can reuse nothing there."""
        runs: dict[Level, list[Run]] = {level: [] for level in LEVELS}
        for blocks, bits in self.ends:
            for level in LEVELS:
                holders = frozenset(self._at(level, bits))
                if holders:
                    runs[level].append(Run(blocks, holders))
        return runs

    def extents(self, holder: HolderId) -> tuple[int, int, int]:
        """Leading blocks a holder has in gpu, in gpu or cpu, in any tier; each at least the one before."""
        return self.table().get(holder, (0, 0, 0))

    def table(self) -> dict[HolderId, tuple[int, int, int]]:
        """The extents of every holder that can reuse anything, as far as they are exact."""
        found: dict[HolderId, tuple[int, int, int]] = {}
        parts: dict[Level, dict[HolderId, int]] = {level: {} for level in LEVELS}
        first = every(Level.GPU, len(self.slots))
        for blocks, bits in self.ends:
            alike = bits & bits >> 1 & bits >> 2 & first  # all levels of a holder end at one depth: nothing but gpu
            found.update(dict.fromkeys(self._named(alike), (blocks, blocks, blocks)))
            rest = bits ^ alike * ALL
            if rest:
                for level in LEVELS:
                    parts[level].update(dict.fromkeys(self._at(level, rest), blocks))
        gpu, cpu, disk = (parts[level] for level in LEVELS)
        found.update((holder, (gpu.get(holder, 0), cpu.get(holder, 0), blocks)) for holder, blocks in disk.items())
        return found

    def array(self, block_tokens: int = 1) -> NDArray[np.int64]:
        """The extents of whoever has slot number 0, 1, ..., and a last row of zeros: shape (slots + 1, levels).

        In blocks, or in tokens if it is told how many a block has. Takes a sixth of the time of `table` where many
        have something.
        """
        count = WIDTH * (len(self.slots) + 1)
        found = np.zeros(count, np.int64)
        for blocks, bits in self.ends:
            if bits.bit_count() > _FEW:
                packed = np.frombuffer(bits.to_bytes((count + 7) // 8, "little"), np.uint8)
                found[np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)] = blocks * block_tokens
                continue
            while bits:
                highest = bits.bit_length() - 1
                found[highest] = blocks * block_tokens
                bits ^= 1 << highest
        return found.reshape(-1, WIDTH)

    def _at(self, level: Level, bits: int) -> Iterable[HolderId]:
        return self._named((bits & every(level, len(self.slots))) >> level - 1)

    def _named(self, firsts: int) -> Iterable[HolderId]:
        """Whose slots have their first bit set."""
        if firsts.bit_count() > _FEW:
            digits = format(firsts, "b")[::-WIDTH].encode().translate(_DIGITS)
            return filter(None, compress(self.slots, digits))
        holders = []
        while firsts:
            lowest = firsts & -firsts
            holder = self.slots[lowest.bit_length() // WIDTH]
            if holder is not None:
                holders.append(holder)
            firsts ^= lowest
        return holders


NO_OVERLAP = Overlap((), ())
