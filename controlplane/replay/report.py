"""What a replay found: a table and plain words for the eye, one object for machines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
from rich import box
from rich.table import Table

from .compare import Comparison
from .summary import Summary, TenantSummary
from .trace import Trace

_COLUMNS = (
    "policy",
    "hit %",
    "TTFT\nmean ms",
    "p50",
    "p90",
    "p99",
    "TPOT\nms",
    "E2E\nms",
    "SLO\n%",
    "Jain",
    "max/\nmean",
    "evicted\nblocks",
    "dup.\nblocks",
)
WIDTH = 116  # what a table needs to show every digit
_FASTER = {
    "ttft_mean_ms": "to the first token",
    "ttft_p50_ms": "to the first token at the median",
    "ttft_p90_ms": "to the first token at the 90th percentile",
    "ttft_p99_ms": "to the first token at the 99th percentile",
    "tpot_mean_ms": "per output token",
    "e2e_mean_ms": "to the whole answer",
    "e2e_p99_ms": "to the whole answer at the 99th percentile",
}
_NUMBERS = tuple(name for name in Summary.__struct_fields__ if name != "tenants")


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What a table says of a trace."""

    name: str
    requests: int
    block_tokens: int
    prompt_tokens: int
    output_tokens: int
    span_ms: float
    tenants: int


@dataclass(frozen=True, slots=True)
class Report:
    """Each policy's summaries, one a run. References that were not asked for are None or empty."""

    trace: TraceFacts
    policies: Mapping[str, Sequence[Summary]]
    comparisons: Sequence[Comparison] = ()
    infinite_hit_rate: float | None = None  # of a cache that never evicts
    pooled_hit_rate: float | None = None  # of one LRU cache as large as all replicas' together
    oracle: Sequence[Summary] = ()  # a router that knows every cache and queue


def facts(trace: Trace) -> TraceFacts:
    """Count what a trace asks for."""
    requests = trace.requests
    return TraceFacts(
        name=trace.name,
        requests=len(requests),
        block_tokens=trace.block_tokens,
        prompt_tokens=sum(request.prompt_tokens for request in requests),
        output_tokens=sum(request.output_tokens for request in requests),
        span_ms=requests[-1].at_ms - requests[0].at_ms if requests else 0.0,
        tenants=len({request.tenant for request in requests}),
    )


def table(report: Report) -> Table:
    """A row a policy, the lowest mean TTFT first, then the references; of several runs their mean. `WIDTH` wide."""
    trace = report.trace
    title = f"{trace.name}: {trace.requests:,} requests, {trace.prompt_tokens:,} prompt tokens"
    shown, failed = policy_table(title, report.policies), _failed(report.policies)
    shown.add_section()
    if report.oracle:
        shown.add_row("oracle", *_cells(_mean(report.oracle), failed), style="dim")
    for name, rate in (("pooled LRU", report.pooled_hit_rate), ("infinite cache", report.infinite_hit_rate)):
        if rate is not None:
            shown.add_row(name, f"{100 * rate:.1f}", style="dim")
    return shown


def policy_table(title: str, policies: Mapping[str, Sequence[Summary]]) -> Table:
    """The table's rows of policies alone."""
    shown = Table(
        title=title,
        caption="hit: prompt tokens found in a cache; Jain, max/mean: work on each replica, 1 is even; "
        "dup.: blocks in more than one cache",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    failed = _failed(policies)
    for column in _COLUMNS + (("failed",) if failed else ()):
        shown.add_column(column, justify="left" if column == "policy" else "right", no_wrap=True)
    means = {name: _mean(runs) for name, runs in policies.items()}
    for name in sorted(means, key=lambda name: np.nan_to_num(means[name]["ttft_mean_ms"], nan=np.inf)):
        shown.add_row(name, *_cells(means[name], failed))
    return shown


def in_words(comparison: Comparison) -> str:
    """One comparison as a sentence."""
    ours, theirs, metric = comparison.ours, comparison.theirs, comparison.metric
    if metric == "hit_rate":
        return _hits_in_words(comparison)
    ratio, low, high = comparison.ratio, comparison.low, comparison.high
    if comparison.verdict == "no difference shown":
        return (
            f"no difference shown between {ours} and {theirs} in the time {_FASTER[metric]} "
            f"({100 * (ratio - 1):+.1f} %, 95 % interval {100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %)"
        )
    sign, word = (-1, "faster") if comparison.verdict == "better" else (1, "slower")
    least, most = sorted((sign * 100 * (low - 1), sign * 100 * (high - 1)))
    return (
        f"{ours} is {sign * 100 * (ratio - 1):.1f} % {word} {_FASTER[metric]} than {theirs} "
        f"(95 % interval {least:.1f} to {most:.1f} %)"
    )


def to_json(report: Report) -> dict[str, object]:
    """The report as JSON's types; what there is no number for is None."""
    references: dict[str, object] = {}
    if report.infinite_hit_rate is not None:
        references["infinite"] = {"hit_rate": report.infinite_hit_rate}
    if report.pooled_hit_rate is not None:
        references["pooled"] = {"hit_rate": report.pooled_hit_rate}
    if report.oracle:
        references["oracle"] = _policy(report.oracle)
    return {
        "trace": asdict(report.trace),
        "policies": {name: _policy(runs) for name, runs in report.policies.items()},
        "references": references,
        "comparisons": [_finite(msgspec.to_builtins(each)) for each in report.comparisons],
    }


def _hits_in_words(comparison: Comparison) -> str:
    points, low, high = comparison.ratio, comparison.low, comparison.high
    if comparison.verdict == "no difference shown":
        return (
            f"no difference shown between {comparison.ours} and {comparison.theirs} in the hit rate "
            f"({points:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f})"
        )
    sign, word = (1, "more") if comparison.verdict == "better" else (-1, "less")
    least, most = sorted((sign * low, sign * high))
    return (
        f"{comparison.ours} finds {sign * points:.2f} points {word} of the prompt tokens in a cache than "
        f"{comparison.theirs} (95 % interval {least:.2f} to {most:.2f})"
    )


def _failed(policies: Mapping[str, Sequence[Summary]]) -> bool:
    return any(run.failed for runs in policies.values() for run in runs)


def _cells(means: Mapping[str, float], failed: bool) -> Sequence[str]:
    shown = (
        (100 * means["hit_rate"], ".1f"),
        *((means[name], ",.0f") for name in ("ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms")),
        (means["tpot_mean_ms"], ".1f"),
        (means["e2e_mean_ms"], ",.0f"),
        (100 * means["slo_attainment"], ".1f"),
        (means["jain"], ".3f"),
        (means["max_over_mean"], ".2f"),
        (means["evicted_blocks"], ",.0f"),
        (means["duplicate_blocks"], ",.0f"),
        *(((means["failed"], ",.0f"),) if failed else ()),
    )
    return [format(value, form) if math.isfinite(value) else "-" for value, form in shown]


def _policy(runs: Sequence[Summary]) -> dict[str, object]:
    """Means over runs; `spread` is their standard deviation, absent for a single run."""
    told: dict[str, object] = {**_finite(_mean(runs)), "runs": len(runs)}
    if len(runs) > 1:
        told["spread"] = _finite({name: float(np.std(_all(runs, name), ddof=1)) for name in _NUMBERS})
    told["tenants"] = {
        name: _tenant([run.tenants[name] for run in runs if name in run.tenants])
        for name in sorted({name for run in runs for name in run.tenants})
    }
    return told


def _tenant(runs: Sequence[TenantSummary]) -> dict[str, object]:
    return _finite({name: _mean_of(_all(runs, name)) for name in TenantSummary.__struct_fields__})


def _mean(runs: Sequence[Summary]) -> dict[str, float]:
    return {name: _mean_of(_all(runs, name)) for name in _NUMBERS}


def _mean_of(values: Sequence[float]) -> float:
    """A count that is the same in all runs stays a whole number."""
    return values[0] if len(set(values)) == 1 else float(np.mean(values))


def _all(runs: Sequence[Summary] | Sequence[TenantSummary], name: str) -> Sequence[float]:
    return [getattr(run, name) for run in runs]


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    """JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
