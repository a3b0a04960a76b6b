"""`kvplane bench tiers`: what a cpu and a disk tier below a small gpu tier are worth."""

from typing import Annotated

import typer

from .printing import AsJson, errors_told, show
from .tiers import Talk, tiers
from .tiers_rows import tiers_table


def tiers_command(
    model: Annotated[str, typer.Option(help="What the embedded engine runs.")] = "tiny",
    gpu_share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of the working set, in the gpu tier.")] = 0.1,
    conversations: Annotated[int, typer.Option(min=4, max=10_000, help="How many, in turns.")] = 24,
    turns: Annotated[int, typer.Option(min=2, max=100, help="Of each.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Conversations on the embedded engine, with and without tiers below, and with files that are spoilt."""
    with errors_told():
        show(list(tiers(Talk(conversations, turns), model, gpu_share)), tiers_table, as_json)
