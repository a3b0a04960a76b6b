"""Whether to fetch a block or to compute it again: what each costs on this machine, learned from doing both."""

from collections.abc import Sequence
from typing import Literal

Below = Literal["cpu", "disk"]

_WEIGHT = 0.2  # of the latest measurement
_CLIP = 2.0  # times what was known, at most: a machine that stands still for a moment is no slow disk
_AGED = 0.98  # what is declined would never be measured again, so it becomes a little likelier each time


class FetchCosts:
    """Microseconds a token. What was never measured is taken to be worth fetching."""

    def __init__(self) -> None:
        self.compute_us: float | None = None
        self.cpu_us: float | None = None
        self.disk_us: float | None = None  # as far as memory; a block from disk pays the way from the cpu tier too

    def computed(self, tokens: int, seconds: float) -> None:
        """Count a step's prompt tokens in."""
        self.compute_us = _mean(self.compute_us, tokens, seconds)

    def copied(self, tokens: int, seconds: float) -> None:
        """Count tokens in that came from memory to the gpu tier."""
        self.cpu_us = _mean(self.cpu_us, tokens, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Count tokens in that came from disk to memory."""
        self.disk_us = _mean(self.disk_us, tokens, seconds)

    def depth(self, tiers: Sequence[Below]) -> int:
        """How many of a prompt's next blocks to fetch, by the tiers they lie in: what spares the most time."""
        if self.compute_us is None:
            return len(tiers)
        spared_us, most_us, depth = 0.0, 0.0, 0
        for index, tier in enumerate(tiers, 1):
            spared_us += self.compute_us - (self.cpu_us or 0.0)
            spared_us -= (self.disk_us or 0.0) if tier == "disk" else 0.0
            if spared_us >= most_us:
                most_us, depth = spared_us, index
        if depth < len(tiers):
            self._age(tiers[depth])
        return depth

    def _age(self, tier: Below) -> None:
        if self.cpu_us is not None:
            self.cpu_us *= _AGED
        if self.disk_us is not None and tier == "disk":
            self.disk_us *= _AGED


def _mean(before_us: float | None, tokens: int, seconds: float) -> float:
    us = seconds * 1e6 / tokens
    return us if before_us is None else before_us + _WEIGHT * (min(us, _CLIP * before_us) - before_us)
