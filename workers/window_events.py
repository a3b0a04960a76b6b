"""What engines tell of layers that look back a bounded number of blocks: sliding windows, and running states."""

from collections.abc import Sequence
from dataclasses import dataclass

from .engine import BlockHash, Tier

EVERY = 1 << 30  # blocks; longer than any prompt


@dataclass(frozen=True, slots=True)
class WindowsStored:
    """Blocks of one group of such layers: copies beside those of the group that looks back at all.

    The engine can go on behind a block only if the group has that one and those before it, `reach` in all.
    """

    hashes: Sequence[BlockHash]
    group: int
    reach: int
    tier: Tier = "gpu"


@dataclass(frozen=True, slots=True)
class WindowsRemoved:
    """Blocks that left a group in one tier, one copy for each mention."""

    hashes: Sequence[BlockHash]
    group: int
    tier: Tier = "gpu"


WindowEvent = WindowsStored | WindowsRemoved
