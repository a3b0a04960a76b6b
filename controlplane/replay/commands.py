"""`kvplane replay` and `kvplane tune`: a trace over a simulated fleet."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...policies import PolicySettings
from ..options import Json
from .bars import bars
from .campaign import campaign
from .compare import LEAST, Incomparable, Metric
from .contenders import DEFAULT, BadPolicy, contenders, policy_named
from .incidents import BadIncident
from .options import (
    BlocksOfCache,
    BlockTokens,
    CpuBlocks,
    DiskBlocks,
    FleetWords,
    Incidents,
    LagMs,
    MaxSequences,
    Part,
    Replicas,
    Requests,
    Routers,
    Seed,
    Speedup,
    Start,
    Tenant,
    TimingName,
    TokenBudget,
    TraceFile,
)
from .plot import CannotPlot, plot
from .report import Report, in_words, table, to_json
from .summary import Slo
from .timing import BadTiming
from .trace import BadTrace
from .tuned import tuned_in_words, tuned_table, tuned_to_json
from .tuning import tune

# What these commands raise; each is told in a line.
ERRORS = (BadIncident, BadPolicy, BadTiming, BadTrace, CannotPlot, Incomparable)
_PICTURES = (".png", ".html")


def replay_command(
    trace: TraceFile,
    policy: Annotated[str, typer.Option(help="Policies, the first to be judged: name[:knob=value...],...")] = DEFAULT,
    replicas: Replicas = 8,
    blocks: BlocksOfCache = None,
    seed: Seed = 1,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Runs of each, each of a later start.")] = 1,
    speedup: Speedup = 1.0,
    requests: Requests = None,
    tenant: Tenant = None,
    start: Start = 0,
    timing: TimingName = "dynamo",
    routers: Routers = 1,
    lag_ms: LagMs = 0.0,
    cpu_blocks: CpuBlocks = 0,
    disk_blocks: DiskBlocks = 0,
    max_sequences: MaxSequences = 256,
    token_budget: TokenBudget = 8192,
    block_tokens: BlockTokens = None,
    incident: Incidents = None,
    slo_ttft_ms: Annotated[float, typer.Option(min=0, help="The longest wait for a first token that is good.")] = 2000,
    slo_tpot_ms: Annotated[float, typer.Option(min=0, help="The same for each token behind it.")] = 100,
    references: Annotated[bool, typer.Option(help="Show what no router can beat.")] = True,
    plots: Annotated[
        list[Path] | None, typer.Option("--plot", help="Draw the first runs into a .png or .html; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay a trace by several policies over a simulated fleet, and compare the first with the others."""
    policies = contenders(policy)
    for path in plots or ():
        _check_plot(path)
    fleet = FleetWords(
        timing,
        replicas,
        blocks,
        cpu_blocks,
        disk_blocks,
        max_sequences,
        token_budget,
        routers,
        lag_ms,
        incident or (),
    )
    with bars(not as_json) as tell:
        part = Part(trace, block_tokens, speedup, requests, tenant, start).read(tell)
        replayed = campaign(
            part,
            policies,
            fleet.settings(part),
            seed=seed,
            runs=runs,
            slo=Slo(slo_ttft_ms, slo_tpot_ms),
            references=references,
            told=tell,
        )
    if as_json:
        typer.echo(json.dumps(to_json(replayed.report), indent=2))
    else:
        _show(replayed.report)
    for path in plots or ():
        plot({label: its[0] for label, its in replayed.runs.items()}, path)


def tune_command(
    trace: TraceFile,
    policy: Annotated[str, typer.Option(help="Whose knobs.")] = PolicySettings().name,
    metric: Annotated[Metric, typer.Option(help="What the best setting is the best in.")] = "ttft_mean_ms",
    jobs: Annotated[int | None, typer.Option(min=1, help="Replays at once; one a core.")] = None,
    replicas: Replicas = 8,
    blocks: BlocksOfCache = None,
    seed: Seed = 1,
    speedup: Speedup = 1.0,
    requests: Requests = None,
    tenant: Tenant = None,
    start: Start = 0,
    timing: TimingName = "dynamo",
    routers: Routers = 1,
    lag_ms: LagMs = 0.0,
    cpu_blocks: CpuBlocks = 0,
    disk_blocks: DiskBlocks = 0,
    max_sequences: MaxSequences = 256,
    token_budget: TokenBudget = 8192,
    block_tokens: BlockTokens = None,
    as_json: Json = False,
) -> None:
    """Find a policy's best setting for a trace: tried on the first third, judged on the rest."""
    name = policy_named(policy)
    fleet = FleetWords(timing, replicas, blocks, cpu_blocks, disk_blocks, max_sequences, token_budget, routers, lag_ms)
    with bars(not as_json) as tell:
        part = Part(trace, block_tokens, speedup, requests, tenant, start).read(tell)
        tuned = tune(
            part, name, fleet.settings(part), metric=metric, seed=seed, jobs=jobs or os.cpu_count() or 1, told=tell
        )
    if as_json:
        typer.echo(json.dumps(tuned_to_json(tuned), indent=2))
        return
    _print(tuned_table(tuned, f"{part.name}: the first {tuned.tried[0].summary.requests:,} requests"))
    for line in tuned_in_words(tuned):
        typer.echo(line)


def _show(report: Report) -> None:
    _print(table(report))
    for comparison in report.comparisons:
        typer.echo(in_words(comparison))
    if not report.comparisons:
        typer.echo(f"no verdicts: they take at least {LEAST} requests and something to compare with")
    if report.infinite_hit_rate is not None and report.pooled_hit_rate is not None:
        typer.echo(
            f"no cache would give back more than {100 * report.infinite_hit_rate:.1f} % of the prompt tokens; "
            f"one LRU cache as large as all replicas' together, {100 * report.pooled_hit_rate:.1f} %"
        )


def _print(shown: Table) -> None:
    """Print a table as wide as its figures need, however narrow the terminal is."""
    console = Console(markup=False, emoji=False)  # a trace may be called anything
    console.width = max(console.width, console.measure(shown, options=console.options.update(width=1000)).maximum)
    console.print(shown)


def _check_plot(path: Path) -> None:
    """Say before a long replay what would be wrong after it."""
    if path.suffix.lower() not in _PICTURES:
        raise CannotPlot(f"wanted a file that ends in {' or '.join(_PICTURES)}; got {path.name}")
    if not path.absolute().parent.is_dir():
        raise CannotPlot(f"wanted a folder that is there; got {path}")
