"""`kvplane bench lookup`, `decide`, `ingest` and `recover`: the directory, and what is decided from it, measured."""

from typing import Annotated

import typer

from .decide import decide
from .decide_rows import decide_table
from .ingest import ingest
from .ingest_rows import ingest_table
from .lookup import FULL, Sizes, lookup
from .lookup_rows import lookup_table
from .printing import AsJson, errors_told, show
from .recover import recover
from .recover_rows import recover_table
from .sizes import size, sizes

Replicas = Annotated[str, typer.Option(help="How many replicas; several as a list: 8,64.")]
Blocks = Annotated[str, typer.Option(help="How many placed blocks: 100k, 1M.")]

_REPLICAS = (4, 4096)  # fewer could not have three holders of a prefix that not all have
_BLOCKS = (10_000, 100_000_000)
_TOKENS = (256, 1 << 20)


def lookup_command(
    replicas: Replicas = "256",
    blocks: Blocks = "1M",
    tokens: Annotated[str, typer.Option(help="Lengths of prompts.")] = "512,4k,32k,128k",
    cached: Annotated[str, typer.Option(help="Per cent of a prompt that the deepest holders have.")] = "0,50,95",
    extents: Annotated[
        str, typer.Option(help="Distinct extents over all holders; 0 where none is cached.")
    ] = "0,1,8,64",
    full: Annotated[bool, typer.Option(help="8 to 1024 replicas, 100k to 10M blocks: half an hour, 3 GB.")] = False,
    as_json: AsJson = False,
) -> None:
    """CPU of asking who holds how much of a prompt, beside Dynamo's indexes."""
    with errors_told():
        asked = Sizes(
            FULL.replicas if full else sizes(replicas, 1000, *_REPLICAS),
            FULL.blocks if full else sizes(blocks, 1000, *_BLOCKS),
            sizes(tokens, 1024, *_TOKENS),
            sizes(cached, 1000, 0, 100),
            sizes(extents, 1000, 0, _REPLICAS[1]),
        )
        show(lookup(asked), lookup_table, as_json)


def decide_command(
    replicas: Replicas = "8,64,256,1024",
    extents: Annotated[str, typer.Option(help="Distinct extents over all holders.")] = "1,8",
    decisions: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many are measured of each kind.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """CPU of one decision and its ticket, with the default policy: prompts of 4k tokens, 95 % cached at the deepest."""
    with errors_told():
        fleets, kinds = sizes(replicas, 1000, *_REPLICAS), sizes(extents, 1000, 1, _REPLICAS[1])
        show(decide(fleets, kinds, decisions), decide_table, as_json)


def ingest_command(
    replicas: Replicas = "256",
    blocks: Blocks = "1M",
    seconds: Annotated[float, typer.Option(min=1, help="For what is measured over time.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """CPU, memory and delay from an engine's event to a router's table, beside Dynamo's indexes."""
    with errors_told():
        show(ingest(sizes(replicas, 1000, *_REPLICAS), sizes(blocks, 1000, *_BLOCKS), seconds), ingest_table, as_json)


def recover_command(
    replicas: Annotated[int, typer.Option(min=_REPLICAS[0], max=_REPLICAS[1], help="How many replicas.")] = 256,
    blocks: Annotated[str, typer.Option(help="How many placed blocks: 100k, 1M.")] = "1M",
    gone_s: Annotated[float, typer.Option(min=1, help="How long there is no Redis at all.")] = 30.0,
    quick: Annotated[bool, typer.Option(help="Five seconds without Redis.")] = False,
    as_json: AsJson = False,
) -> None:
    """Faults of Redis, mirrors and replicas: how long until all is as before, and what failed meanwhile."""
    with errors_told():
        placed = size(blocks, 1000, *_BLOCKS)
        show(recover(replicas, placed, 5.0 if quick else gone_s), recover_table, as_json)
