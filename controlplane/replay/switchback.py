"""Whole policies compared on live traffic: each rules alternate windows of time, so queues are its own doing."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from .blocks import t_quantile
from .compare import Incomparable
from .run import Floats


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time under one policy, and a value of each request that arrived in it, such as its TTFT."""

    policy: str
    began_ms: float
    ended_ms: float
    arrived_ms: Floats
    values: Floats


class Switchback(msgspec.Struct, frozen=True):
    """The mean of ours less theirs with its 95 % interval; a difference is shown where that leaves 0 out."""

    ours: str
    theirs: str
    difference: float
    low: float
    high: float
    pairs: int

    @property
    def shown(self) -> bool:
        return self.low > 0 or self.high < 0


def switchback(windows: Sequence[Window], ours: str, theirs: str, *, carry_over: float = 0.2) -> Switchback:
    """Compare the means of windows, paired two by two in time: what changes slowly is the same in both.

    The first `carry_over` of each window is dropped: the policy before it left those queues and caches. The interval is
    Student's over the pairs, which must be drawn by chance in which of the two policies goes first. Raises Incomparable
    for windows that do not pair, fewer than two pairs, or a window without a value.
    """
    if not 0 <= carry_over < 1:
        raise Incomparable(f"wanted to drop a share of 0 or more, below 1, of each window; got {carry_over}")
    if len(windows) < 4 or len(windows) % 2:
        raise Incomparable(f"wanted an even number of windows, 4 or more; got {len(windows)}")
    ordered = sorted(windows, key=lambda window: window.began_ms)
    differences = np.array(
        [_difference(at, ordered[at : at + 2], ours, theirs, carry_over) for at in range(0, len(ordered), 2)]
    )
    pairs, mean = len(differences), float(differences.mean())
    arm = t_quantile(0.975, pairs - 1) * float(differences.std(ddof=1)) / pairs**0.5
    return Switchback(ours, theirs, mean, mean - arm, mean + arm, pairs)


def _difference(at: int, pair: Sequence[Window], ours: str, theirs: str, carry_over: float) -> float:
    if pair[0].ended_ms > pair[1].began_ms:
        raise Incomparable(f"windows {at} and {at + 1} overlap: wanted one policy at a time")
    means = {window.policy: _settled_mean(at + place, window, carry_over) for place, window in enumerate(pair)}
    if set(means) != {ours, theirs}:
        ruled = " and ".join(window.policy for window in pair)
        raise Incomparable(f"wanted {ours} and {theirs}, one each, in windows {at} and {at + 1}; got {ruled}")
    return means[ours] - means[theirs]


def _settled_mean(at: int, window: Window, carry_over: float) -> float:
    settled_ms = window.began_ms + carry_over * (window.ended_ms - window.began_ms)
    kept = window.values[(window.arrived_ms >= settled_ms) & np.isfinite(window.values)]
    if not kept.size:
        raise Incomparable(
            f"window {at} ({window.policy}) has no value after {carry_over:.0%} of it: make windows longer"
        )
    return float(kept.mean())
