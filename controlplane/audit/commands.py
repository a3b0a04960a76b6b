"""`kvplane audit`: can tenants of this deployment see one another?"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..options import Json
from ..replay.bars import bars
from .parties import CROSS, Level, pair_up, read_parties
from .procedure import Plan
from .report import EXIT, in_words, table, to_json
from .run import audit
from .verdict import Report


def audit_command(
    url: Annotated[str, typer.Option(help="Where the model is served; ends in /v1.")] = "http://127.0.0.1:8000/v1",
    keys: Annotated[Path | None, typer.Option(help="A tenants file.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="organisation/workspace=key; repeatable.")] = None,
    level: Annotated[
        list[Level] | None, typer.Option(help="Repeatable; all if none. The control, within, is always there.")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Hits of each level, and as many misses.")] = 2000,
    tokens: Annotated[int, typer.Option(min=1, help="Letters in a prompt, about a token each.")] = 100,
    fraction: Annotated[float, typer.Option(max=1, help="Of the victim's letters the attacker knows so many.")] = 0.95,
    victim_requests: Annotated[int, typer.Option(min=1, help="How often the victim sends its prompt.")] = 1,
    pause_ms: Annotated[float, typer.Option(min=0, help="Between victim and attacker.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the prompts and their order.")] = 1,
    state: Annotated[Path | None, typer.Option(help="Its state folder: audits replicas and queues as well.")] = None,
    as_json: Json = False,
) -> None:
    """Test whether one tenant can tell what another has asked. Exit 1: it can; 3: nothing is proven."""
    pairs = pair_up(read_parties(keys, key or ()), level or CROSS)
    plan = Plan(samples, tokens, fraction, victim_requests, seed)
    decisions = None if state is None else state / "decisions.sqlite"
    with bars(not as_json) as tell:
        report = audit(
            url, pairs, plan, decisions, pause_s=pause_ms / 1e3, told=lambda done, of: tell("procedures", done, of)
        )
    if as_json:
        typer.echo(json.dumps(to_json(report), indent=2))
    else:
        _show(report)
    raise typer.Exit(EXIT[report.verdict])


def _show(report: Report) -> None:
    """Print the table as wide as its figures need, however narrow the terminal is."""
    console, shown = Console(), table(report)
    console.width = max(console.width, console.measure(shown, options=console.options.update(width=1000)).maximum)
    console.print(shown)
    for level, found in report.levels.items():
        typer.echo(in_words(level, found))
