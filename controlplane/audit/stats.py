"""What two samples tell: are hits smaller than misses, by how much at most, and how surely over many tests.

Everywhere the first sample is of cache hits, the second of misses, of equal size, and a smaller value hints at a hit.
"""

from collections.abc import Mapping, Sequence
from math import lgamma, sqrt
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = TypeVar("Key")

_CONFIDENCE = 0.95


def ks_p(hits: Floats, misses: Floats) -> float:
    """The chance of hits this much smaller if both were drawn alike: one-sided two-sample Kolmogorov-Smirnov, exact.

    What `scipy.stats.ks_2samp(hits, misses, alternative="greater")` gives for equal sizes (Gnedenko and Korolyuk):
    C(2n, n-k) / C(2n, n), where k of n is the largest lead of the hits. Ties make it larger than it is, never smaller.
    """
    n = _size(hits, misses)
    everything = np.concatenate([hits, misses])
    led = np.searchsorted(np.sort(hits), everything, "right") - np.searchsorted(np.sort(misses), everything, "right")
    k = int(led.max())  # not below 0: at the largest value both have come to their end
    return float(np.exp(2 * lgamma(n + 1) - lgamma(n - k + 1) - lgamma(n + k + 1)))


def auc(hits: Floats, misses: Floats) -> float:
    """The chance that a hit is smaller than a miss, ties counted half: Mann and Whitney's U over n²."""
    _size(hits, misses)
    return float(_above(hits, misses).mean())


def auc_upper(hits: Floats, misses: Floats) -> float:
    """The bound that the AUC is below with 95 % confidence, one-sided (DeLong et al., 1988)."""
    n = _size(hits, misses)
    of_hits, of_misses = _above(hits, misses), 1 - _above(misses, hits)
    variance = 0.0 if n == 1 else (of_hits.var(ddof=1) + of_misses.var(ddof=1)) / n
    return min(1.0, float(of_hits.mean()) + NormalDist().inv_cdf(_CONFIDENCE) * sqrt(variance))


def beyond(hits: Floats, misses: Floats) -> int:
    """How many hits are smaller than every miss."""
    _size(hits, misses)
    return int((hits < misses.min()).sum())


def holm(ps: Mapping[Key, float]) -> Mapping[Key, float]:
    """Adjust p-values for being many: below a level with at most its chance that any one is so by accident."""
    adjusted, so_far = dict[Key, float](), 0.0
    for rank, key in enumerate(sorted(ps, key=lambda key: ps[key])):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[key]))
        adjusted[key] = so_far
    return adjusted


def floats(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)


def _above(values: Floats, others: Floats) -> Floats:
    """For each value the share of the others that are greater, ties counted half."""
    ordered = np.sort(others)
    not_above = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(1 - not_above / (2 * len(others)), np.float64)


def _size(hits: Floats, misses: Floats) -> int:
    if len(hits) != len(misses) or not len(hits):
        raise ValueError(f"wanted as many hits as misses, at least one; got {len(hits)} and {len(misses)}")
    return len(hits)
