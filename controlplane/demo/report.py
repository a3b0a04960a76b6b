"""What the demo measured: figures of a routing, as a table for the eye and as report.json."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .drive import Answer, Failure, Reply

BASELINE, RAY, OURS = "round_robin", "ray", "kvplane"  # the routings compared, in this order


@dataclass(frozen=True, slots=True)
class Figures:
    """What a set of requests got. The times are None where none was answered."""

    requests: int
    errors: int
    cached_share: float  # of the prompt tokens: those whose prefill was skipped
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    prefill_tokens: int  # prompt tokens computed


def figures(replies: Sequence[Reply]) -> Figures:
    """Sum up replies; times and tokens are those of answered requests."""
    answers = [reply.completion for reply in replies if isinstance(reply, Answer)]
    prompt = sum(answer.prompt_tokens for answer in answers)
    times = sorted(answer.ttft_ms for answer in answers)
    return Figures(
        requests=len(replies),
        errors=len(replies) - len(answers),
        cached_share=round(sum(answer.cached_tokens for answer in answers) / prompt, 4) if prompt else 0.0,
        ttft_p50_ms=_percentile(times, 0.50),
        ttft_p95_ms=_percentile(times, 0.95),
        prefill_tokens=sum(answer.prefill_tokens for answer in answers),
    )


def by_tenant(replies: Sequence[Reply]) -> Mapping[str, Figures]:
    """The same for each tenant's requests alone."""
    tenants = sorted({reply.tenant for reply in replies})
    return {tenant: figures([reply for reply in replies if reply.tenant == tenant]) for tenant in tenants}


def write_report(runs: Mapping[str, Sequence[Reply]], path: Path) -> None:
    """Write one object per routing: its figures, and under `tenants` those of each."""
    report = {
        routing: {
            **asdict(figures(replies)),
            "tenants": {tenant: asdict(each) for tenant, each in by_tenant(replies).items()},
        }
        for routing, replies in runs.items()
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def show_report(runs: Mapping[str, Sequence[Reply]], console: Console) -> None:
    """Print the table, the comparison in words, and the first error of each run that had any."""
    console.print(_table(runs))
    for line in comparison({routing: figures(replies) for routing, replies in runs.items()}):
        console.print(line)
    for routing, replies in runs.items():
        failures = [reply for reply in replies if isinstance(reply, Failure)]
        if failures:
            console.print(
                f"{routing}: {len(failures)} requests failed, the first with: {failures[0].why}", markup=False
            )


def comparison(figures: Mapping[str, Figures]) -> Sequence[str]:
    """Say how kvplane did beside each of the others."""
    ours = figures[OURS]
    lines = []
    for name in (BASELINE, RAY):
        theirs = figures[name]
        if ours.ttft_p50_ms and theirs.ttft_p50_ms and theirs.prefill_tokens:
            faster = theirs.ttft_p50_ms / ours.ttft_p50_ms
            fewer = 1 - ours.prefill_tokens / theirs.prefill_tokens
            lines.append(
                f"Beside {name}, kvplane's median first token came {_times(faster)}, and it computed {_percent(fewer)} "
                "prompt tokens."
            )
    return lines


def _table(runs: Mapping[str, Sequence[Reply]]) -> Table:
    table = Table(
        title="The same work under three routings",
        caption="cached: prompt tokens that needed no prefill; computed: the others; TTFT: request sent to first token",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("routing", no_wrap=True)
    for column in ("requests", "errors", "cached", "TTFT p50", "TTFT p95", "computed"):
        table.add_column(column, justify="right")
    for routing, replies in runs.items():
        table.add_row(f"[bold]{routing}[/bold]", *_cells(figures(replies)))
        for tenant, each in by_tenant(replies).items():
            table.add_row(f"  {tenant}", *_cells(each), style="dim")
        table.add_section()
    return table


def _cells(figures: Figures) -> Sequence[str]:
    return (
        str(figures.requests),
        str(figures.errors),
        f"{figures.cached_share:.0%}",
        _seconds(figures.ttft_p50_ms),
        _seconds(figures.ttft_p95_ms),
        f"{figures.prefill_tokens:,}",
    )


def _seconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms / 1e3:.2f} s"


def _times(faster: float) -> str:
    return f"{faster:.1f} times sooner" if faster >= 1 else f"{1 / faster:.1f} times later"


def _percent(fewer: float) -> str:
    return f"{fewer:.0%} fewer" if fewer >= 0 else f"{-fewer:.0%} more"


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: the smallest value that at least this share does not exceed."""
    return round(ordered[math.ceil(share * len(ordered)) - 1], 1) if ordered else None
