"""Who has a name, as bits of one integer: three for each slot, and a slot for each holder."""

from functools import lru_cache

from .ids import LEVELS, Level

WIDTH = len(LEVELS)  # bit number slot * 3 + (level - 1)
ALL = (1 << WIDTH) - 1

# A level is a union with those before it: what is held at gpu is held at gpu or cpu, and in any tier.
BITS = {Level.NONE: 0b000, Level.GPU: 0b111, Level.CPU: 0b110, Level.DISK: 0b100}
LEVEL_OF = {bits: level for level, bits in BITS.items()}


class Rewrite(dict[int, int]):
    """Masks before to masks after one slot's bits are set; what many names share is worked out once, and is one int."""

    def __init__(self, own: int, bits: int) -> None:
        super().__init__()
        self._others, self._bits = ~own, bits

    def __missing__(self, mask: int) -> int:
        after = self[mask] = mask & self._others | self._bits
        return after


@lru_cache(maxsize=64)
def every(level: Level, slots: int) -> int:
    """One level's bit of each of the first `slots` slots."""
    return ((1 << WIDTH * slots) - 1) // ALL << level - 1
