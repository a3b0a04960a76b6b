"""What a holding comes to in 128 bits a level: two that are kept apart agree exactly when they hold the same."""

import numpy as np

from .ids import LEVELS, Level

DIGEST_BYTES = 16 * len(LEVELS)
_WORD = (1 << 64) - 1


class Digest:
    """For each level the sums of its names and of their squares, modulo 2 ** 64.

    Names are outputs of a keyed permutation, so sums of them are as good as random. It guards against mistakes; against
    forgery there are signatures. Adding and removing commute: only what is held counts, not how it came about.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums = [0] * (2 * len(LEVELS))

    def add(self, level: Level, names: bytes) -> None:
        """Names, packed as uint64, stand at a level. At none they add nothing."""
        self._change(level, names, 1)

    def remove(self, level: Level, names: bytes) -> None:
        """Names, packed as uint64, stand at a level no longer."""
        self._change(level, names, -1)

    def __bytes__(self) -> bytes:
        """For each level its sum of names and its sum of squares, little-endian."""
        return b"".join(value.to_bytes(8, "little") for value in self._sums)

    def _change(self, level: Level, names: bytes, sign: int) -> None:
        if level is Level.NONE:
            return
        values, at = np.frombuffer(names, "<u8"), 2 * (level - 1)
        self._sums[at] = (self._sums[at] + sign * int(values.sum())) & _WORD
        self._sums[at + 1] = (self._sums[at + 1] + sign * int((values * values).sum())) & _WORD
