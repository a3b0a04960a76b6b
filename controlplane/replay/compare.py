"""Two policies on the same requests: how far apart they are, and whether that is more than chance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from .blocks import Blocks, block_length, draw_blocks, interval
from .run import Floats, Ints, Run
from .timeline import places

Metric = Literal[
    "hit_rate",
    "ttft_mean_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "e2e_mean_ms",
    "e2e_p99_ms",
]
Verdict = Literal["better", "worse", "no difference shown"]

_VALUES: Mapping[Metric, Callable[[Run], Floats]] = {
    "hit_rate": lambda run: run.cached_tokens / run.prompt_tokens,
    "ttft_mean_ms": lambda run: run.ttft_ms,
    "ttft_p50_ms": lambda run: run.ttft_ms,
    "ttft_p90_ms": lambda run: run.ttft_ms,
    "ttft_p99_ms": lambda run: run.ttft_ms,
    "tpot_mean_ms": lambda run: run.tpot_ms,
    "e2e_mean_ms": lambda run: run.e2e_ms,
    "e2e_p99_ms": lambda run: run.e2e_ms,
}
_QUANTILES: Mapping[Metric, float] = {
    "ttft_p50_ms": 0.50,
    "ttft_p90_ms": 0.90,
    "ttft_p99_ms": 0.99,
    "e2e_p99_ms": 0.99,
}
LEAST = 10  # requests; of fewer no interval can be believed
_QUANTILE_SHARE = 4  # a quantile has to be sought in all values: so many times fewer draws are made


class Incomparable(ValueError):
    """What cannot be compared, and why."""


class Comparison(msgspec.Struct, frozen=True):
    """Ours over theirs with its 95 % interval; of `hit_rate`, ours less theirs in points of a hundred."""

    ours: str
    theirs: str
    metric: Metric
    ratio: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Pairs:
    """All runs on one line of time, shape (runs, places). Weight 0 marks where a run has no request."""

    ours: Floats
    theirs: Floats
    weights: Floats


def compare(
    ours: Sequence[Run], theirs: Sequence[Run], metric: Metric, *, resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare run by run, request by request; one that failed in either run counts in neither.

    Each resample draws blocks of time (`blocks.py`), and of several runs as many with replacement, for a whole run can
    be lucky. A request of several runs is drawn in all of them or in none. Raises Incomparable for runs that are not of
    the same requests, or have none in common that was served.
    """
    pairs = _paired(ours, theirs, metric)
    runs, size = pairs.weights.shape
    random = np.random.default_rng(seed)
    at = _effect(metric, *_whole(metric, pairs))[0]
    draws = resamples // _QUANTILE_SHARE if metric in _QUANTILES else resamples
    blocks = draw_blocks(size, block_length(_leaning(metric, pairs)), draws, random)
    chosen = random.multinomial(runs, np.full(runs, 1 / runs), size=draws).astype(np.float64)
    drawn = _effect(metric, *_estimates(metric, pairs, blocks, chosen))
    low, high = interval(drawn[np.isfinite(drawn)], float(at), blocks.widening)
    return Comparison(ours[0].policy, theirs[0].policy, metric, float(at), low, high, _verdict(metric, low, high))


def _paired(ours: Sequence[Run], theirs: Sequence[Run], metric: Metric) -> _Pairs:
    if not ours or len(ours) != len(theirs):
        raise Incomparable(f"wanted as many runs of each policy, at least one; got {len(ours)} and {len(theirs)}")
    for one, other in zip(ours, theirs, strict=True):
        same = np.array_equal(one.arrived_ms, other.arrived_ms) and np.array_equal(
            one.prompt_tokens, other.prompt_tokens
        )
        if not same or one.seed != other.seed:
            raise Incomparable(
                f"wanted {one.policy} and {other.policy} on the same requests with the same seed; got "
                f"{len(one.arrived_ms)} requests, seed {one.seed}, and {len(other.arrived_ms)}, seed {other.seed}: "
                "replay both with one command"
            )
    at = places([run.prompt_tokens for run in ours])
    size = max(int(its[-1]) + 1 if len(its) else 0 for its in at)
    pairs = _Pairs(*(np.zeros((len(ours), size)) for _ in range(3)))
    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        _place(pairs, row, at[row], one, other, metric)
    common = int(np.count_nonzero(pairs.weights.any(axis=0)))
    if common < LEAST:
        raise Incomparable(
            f"wanted at least {LEAST} requests with a {metric} under both {ours[0].policy} and {theirs[0].policy}; "
            f"got {common}"
        )
    return pairs


def _place(pairs: _Pairs, row: int, at: Ints, ours: Run, theirs: Run, metric: Metric) -> None:
    one, other = _VALUES[metric](ours), _VALUES[metric](theirs)
    both = ours.served & theirs.served & np.isfinite(one) & np.isfinite(other)
    pairs.ours[row, at[both]] = one[both]
    pairs.theirs[row, at[both]] = other[both]
    pairs.weights[row, at[both]] = ours.prompt_tokens[both] if metric == "hit_rate" else 1.0


def _estimates(metric: Metric, pairs: _Pairs, blocks: Blocks, chosen: Floats) -> tuple[Floats, Floats]:
    """The metric of each side in every draw; `chosen` says how often a draw takes each run, shape (draws, runs)."""
    if metric not in _QUANTILES:
        return _means(pairs, blocks, chosen)
    share = _QUANTILES[metric]
    ours = _quantiles(pairs.ours, pairs.weights, share, blocks, chosen)
    return ours, _quantiles(pairs.theirs, pairs.weights, share, blocks, chosen)


def _whole(metric: Metric, pairs: _Pairs) -> tuple[Floats, Floats]:
    """The metric of each side over all requests, as the one draw that takes each of them once."""
    runs, size = pairs.weights.shape
    return _estimates(metric, pairs, Blocks(size, size, np.zeros((1, 1), np.int64)), np.ones((1, runs)))


def _means(pairs: _Pairs, blocks: Blocks, chosen: Floats) -> tuple[Floats, Floats]:
    ours, theirs, weight = (
        (blocks.sums(values) * chosen).sum(axis=1)
        for values in (pairs.ours * pairs.weights, pairs.theirs * pairs.weights, pairs.weights)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return ours / weight, theirs / weight


def _quantiles(values: Floats, weights: Floats, share: float, blocks: Blocks, chosen: Floats) -> Floats:
    """Sort once; a draw then only says how often each value is there."""
    run, place = np.nonzero(weights)
    order = np.argsort(values[run, place], kind="stable")
    run, place = run[order], place[order]
    rising = values[run, place]
    found = np.empty(len(chosen))
    for draw, runs in enumerate(chosen):
        reached = np.cumsum(blocks.counts(draw)[place] * runs[run])
        at = np.searchsorted(reached, share * reached[-1])
        found[draw] = rising[at] if reached[-1] else np.nan
    return found


def _effect(metric: Metric, ours: Floats, theirs: Floats) -> Floats:
    if metric == "hit_rate":
        return 100 * (ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ours / theirs


def _leaning(metric: Metric, pairs: _Pairs) -> Floats:
    """What each place adds to the effect, first order: its correlation in time is what blocks must keep."""
    total = pairs.weights.sum()
    if metric in _QUANTILES:
        ours, theirs = _whole(metric, pairs)
        above = (pairs.ours > ours).astype(np.float64) - (pairs.theirs > theirs)
        return np.asarray((pairs.weights * above).sum(axis=0))
    ours, theirs = pairs.ours, pairs.theirs
    if metric != "hit_rate":
        ours = ours * total / (ours * pairs.weights).sum()
        theirs = theirs * total / (theirs * pairs.weights).sum()
    return np.asarray((pairs.weights * (ours - theirs)).sum(axis=0))


def _verdict(metric: Metric, low: float, high: float) -> Verdict:
    if metric == "hit_rate":
        low, high = 1 - high / 100, 1 - low / 100
    return "better" if high < 1 else "worse" if low > 1 else "no difference shown"
