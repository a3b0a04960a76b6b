"""One run in figures: how much was cached, how soon answers came, how evenly the work lay."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from .run import Floats, Run

Bools = NDArray[np.bool_]


class Slo(msgspec.Struct, frozen=True):
    """How long a user may wait: for the first token, and for each behind it."""

    ttft_ms: float = 2000.0
    tpot_ms: float = 100.0


class TenantSummary(msgspec.Struct, frozen=True):
    """What one tenant got; NaN where nothing of its was served."""

    requests: int
    hit_rate: float
    ttft_mean_ms: float
    ttft_p99_ms: float


class Summary(msgspec.Struct, frozen=True):
    """Times and `hit_rate` are NaN where nothing was served; times leave out requests that failed, rates count them.

    A percentile is the nearest rank: the smallest value that at least this share does not exceed.
    """

    requests: int
    failed: int
    hit_rate: float  # of all prompt tokens, those found in a cache
    ttft_mean_ms: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    tpot_p90_ms: float
    e2e_mean_ms: float
    e2e_p50_ms: float
    e2e_p90_ms: float
    e2e_p99_ms: float
    slo_attainment: float  # of all requests, those within the SLO
    goodput_rps: float  # requests within the SLO, a second from the first arrival to the last answer
    output_tokens_per_s: float
    jain: float  # Jain's index of the work on each replica: 1 when even, 1/replicas when one does all
    max_over_mean: float  # of the same
    evicted_blocks: int
    duplicate_blocks: float  # mean over the run
    tenants: dict[str, TenantSummary]


def summarise(run: Run, slo: Slo | None = None) -> Summary:
    """Sum up a run."""
    served, tpot_ms = run.served, run.tpot_ms
    ttft_ms, e2e_ms = run.ttft_ms[served], run.e2e_ms[served]
    within = int(within_slo(run, slo or Slo()).sum())
    span_s = _span_s(run)
    work = work_tokens(run)
    return Summary(
        requests=len(served),
        failed=int((~served).sum()),
        hit_rate=_hit_rate(run, np.ones_like(served)),
        ttft_mean_ms=mean(ttft_ms),
        ttft_p50_ms=percentile(ttft_ms, 0.50),
        ttft_p90_ms=percentile(ttft_ms, 0.90),
        ttft_p99_ms=percentile(ttft_ms, 0.99),
        tpot_mean_ms=mean(tpot_ms[~np.isnan(tpot_ms)]),
        tpot_p90_ms=percentile(tpot_ms[~np.isnan(tpot_ms)], 0.90),
        e2e_mean_ms=mean(e2e_ms),
        e2e_p50_ms=percentile(e2e_ms, 0.50),
        e2e_p90_ms=percentile(e2e_ms, 0.90),
        e2e_p99_ms=percentile(e2e_ms, 0.99),
        slo_attainment=_ratio(within, len(served)),
        goodput_rps=_ratio(within, span_s),
        output_tokens_per_s=_ratio(float(run.output_tokens[served].sum()), span_s),
        jain=_ratio(float(work.sum()) ** 2, len(work) * float(work @ work)),
        max_over_mean=_ratio(float(work.max(initial=0.0)) * len(work), float(work.sum())),
        evicted_blocks=run.evicted_blocks,
        duplicate_blocks=mean(run.duplicates),
        tenants={name: _tenant(run, run.tenant == at) for at, name in enumerate(run.tenants)},
    )


def within_slo(run: Run, slo: Slo) -> Bools:
    """Which requests were answered in time; an answer of one token has no TPOT to miss."""
    in_time = run.served & (run.ttft_ms <= slo.ttft_ms)
    return in_time & ((run.output_tokens <= 1) | (run.tpot_ms <= slo.tpot_ms))


def work_tokens(run: Run) -> Floats:
    """The tokens each replica computed, prompt and output: shape (replicas,)."""
    served = run.served
    tokens = run.prompt_tokens - run.cached_tokens + run.output_tokens
    work = np.zeros(len(run.replicas))
    np.add.at(work, run.replica[served], tokens[served])
    return work


def mean(values: Floats) -> float:
    """NaN for no values."""
    return float(values.mean()) if values.size else math.nan


def percentile(values: Floats, share: float) -> float:
    """The nearest rank; NaN for no values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values.size else math.nan


def _tenant(run: Run, its: Bools) -> TenantSummary:
    ttft_ms = run.ttft_ms[its & run.served]
    return TenantSummary(
        requests=int(its.sum()),
        hit_rate=_hit_rate(run, its),
        ttft_mean_ms=mean(ttft_ms),
        ttft_p99_ms=percentile(ttft_ms, 0.99),
    )


def _hit_rate(run: Run, its: Bools) -> float:
    """A prompt that failed counts as not found, or failing would raise the rate."""
    return _ratio(float(run.cached_tokens[its & run.served].sum()), float(run.prompt_tokens[its].sum()))


def _span_s(run: Run) -> float:
    ended_ms = (run.arrived_ms + run.e2e_ms)[run.served]
    return float(ended_ms.max() - run.arrived_ms.min()) / 1e3 if ended_ms.size else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
