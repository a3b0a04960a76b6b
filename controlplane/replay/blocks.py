"""A bootstrap of values that depend on their neighbours: whole stretches are drawn, never single values.

Requests close in time share a queue and a cache, so that drawing them one by one would make every interval too narrow.
Stretches of a circle are drawn (Politis and Romano 1992), so that the values at the ends count like all others.
"""

from dataclasses import dataclass

import numpy as np

from .run import Floats, Ints

_LEAST_BLOCKS = 8  # fewer say too little of how much they vary
_TAUS = 8  # a block of so many correlation times leaves a sixteenth of the variance out
_WINDOW = 5  # correlations so many correlation times off are noise


@dataclass(frozen=True, slots=True)
class Blocks:
    """Draws from `size` positions on a circle; the stretches of a draw together are as long as it, or just longer."""

    size: int
    length: int  # positions in a stretch
    firsts: Ints  # where the stretches begin, shape (draws, stretches)

    @property
    def widening(self) -> float:
        """What an interval must grow by because its variance is that of few stretches: Student's t for a normal."""
        return t_quantile(0.975, self.firsts.shape[1] - 1) / t_quantile(0.975, 10_000)

    def sums(self, values: Floats) -> Floats:
        """The sum of each row over every draw: shape (rows, size) in, (draws, rows) out."""
        found = np.empty((len(self.firsts), len(values)))
        for row, each in enumerate(values):
            running = np.concatenate(([0.0], np.cumsum(np.concatenate((each, each[: self.length - 1])))))
            found[:, row] = (running[self.length :] - running[: -self.length])[self.firsts].sum(axis=1)
        return found

    def counts(self, draw: int) -> Ints:
        """How often a draw holds each position."""
        begun = np.bincount(self.firsts[draw], minlength=self.size)
        wrapped = np.concatenate((begun[self.size - self.length + 1 :], begun))
        running = np.concatenate(([0], np.cumsum(wrapped)))
        return running[self.length :] - running[: -self.length]


def draw_blocks(size: int, length: int, draws: int, random: np.random.Generator) -> Blocks:
    """Draw stretches that begin anywhere with equal chance."""
    return Blocks(size, length, random.integers(size, size=(draws, -(-size // length))))


def block_length(values: Floats) -> int:
    """How long stretches must be to keep what neighbours share: at least the square root of all.

    Values that stay correlated for longer, as while a queue drains, get eight of their integrated autocorrelation
    times, summed up to the first lag that is five of them off (Sokal 1997); yet there are always eight stretches.
    """
    size = len(values)
    apart = values - values.mean()
    spectrum = np.fft.rfft(apart, 1 << (2 * size - 1).bit_length())
    shared = np.fft.irfft(np.abs(spectrum) ** 2)[:size]
    root = int(np.ceil(np.sqrt(size)))
    if not shared[0] > 0:
        return root
    taus = 2 * np.cumsum(shared / shared[0]) - 1
    settled = np.flatnonzero(np.arange(size) >= _WINDOW * taus)
    tau = float(taus[settled[0]]) if len(settled) else float(size)
    return max(1, min(max(root, int(_TAUS * tau)), size // _LEAST_BLOCKS))


def interval(draws: Floats, at: float, widening: float) -> tuple[float, float]:
    """The 95 % percentile interval of the draws, its arms about `at` lengthened by `widening`."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return at - widening * (at - float(low)), at + widening * (float(high) - at)


def t_quantile(share: float, freedom: int) -> float:
    """Student's t, integrated: with t = sqrt(freedom) tan(angle), its density goes as cos(angle)^(freedom - 1)."""
    angles = np.linspace(0.0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    angle = np.interp(2 * share - 1, mass / mass[-1], angles)
    return float(np.sqrt(freedom) * np.tan(angle))
