"""Options that the commands over a trace share, and the trace and the fleet that they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .bars import Tell
from .fit import timing_from_file
from .fleet import FleetSettings
from .incidents import incidents
from .read_trace import read_trace
from .timing import TIMINGS, BadTiming, Timing, timing_named
from .trace import Trace, scaled

CACHE_TOKENS = 1 << 20  # of a replica, where no number of blocks is said

TraceFile = Annotated[Path, typer.Argument(help="This project's lines, Mooncake's, or a decision log.")]
Replicas = Annotated[int, typer.Option(min=1, max=1024, help="How many replicas.")]
BlocksOfCache = Annotated[
    int | None, typer.Option("--blocks", min=1, help="Blocks of KV cache on each; as many as hold 1,048,576 tokens.")
]
Seed = Annotated[int, typer.Option(min=0, help="All chance comes from it.")]
Speedup = Annotated[float, typer.Option(help="Divide the trace's times by it.")]
Requests = Annotated[int | None, typer.Option(min=1, help="How many requests; all there are.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's requests.")]
Start = Annotated[int, typer.Option(min=0, help="Leave out so many of the first requests.")]
BlockTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a block: of Mooncake's files 512 if not said; of others a check.")
]
TimingName = Annotated[str, typer.Option("--timing", help=f"{', '.join(TIMINGS)}, or a file of measured steps.")]
Routers = Annotated[int, typer.Option(min=1, max=64, help="Routers, each with its own mirror of the pages.")]
LagMs = Annotated[float, typer.Option(min=0, max=60_000, help="From a replica's word to a router's ear.")]
CpuBlocks = Annotated[int, typer.Option(min=0, help="Blocks of each replica's cpu tier.")]
DiskBlocks = Annotated[int, typer.Option(min=0, help="Blocks of each replica's disk tier.")]
MaxSequences = Annotated[int, typer.Option(min=1, help="Sequences that a replica runs at once.")]
TokenBudget = Annotated[int, typer.Option(min=1, help="New tokens that a step computes at most.")]
Incidents = Annotated[
    list[str] | None,
    typer.Option(
        "--incident",
        metavar="SECONDS:KIND:REPLICA",
        help="A replica leaves, joins or slows, that with :FACTOR behind it, as 60:slows:3:2; repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class Part:
    """Which requests of a file, and how quickly they come."""

    file: Path
    block_tokens: int | None
    speedup: float
    requests: int | None
    tenant: str | None
    start: int

    def read(self, tell: Tell) -> Trace:
        """Read them. Raises `BadTrace`."""
        whole = read_trace(self.file, block_tokens=self.block_tokens, progress=lambda done: tell("reading", done, None))
        return scaled(whole, speedup=self.speedup, requests=self.requests, tenant=self.tenant, start=self.start)


@dataclass(frozen=True, slots=True)
class FleetWords:
    """A fleet as options say it."""

    timing: str
    replicas: int
    blocks: int | None
    cpu_blocks: int
    disk_blocks: int
    max_sequences: int
    token_budget: int
    routers: int
    lag_ms: float
    incidents: Sequence[str] = ()

    def settings(self, trace: Trace) -> FleetSettings:
        """The fleet for a trace, whose blocks it has. Raises `BadTiming` and `BadIncident`."""
        return FleetSettings(
            timing=_timing(self.timing),
            replicas=self.replicas,
            blocks=max(1, CACHE_TOKENS // trace.block_tokens) if self.blocks is None else self.blocks,
            cpu_blocks=self.cpu_blocks,
            disk_blocks=self.disk_blocks,
            max_sequences=self.max_sequences,
            token_budget=self.token_budget,
            routers=self.routers,
            lag_s=self.lag_ms / 1e3,
            incidents=incidents(self.incidents, self.replicas, trace.requests[-1].at_ms),
        )


def _timing(text: str) -> Timing:
    if text in TIMINGS:
        return timing_named(text)
    if not Path(text).is_file():
        raise BadTiming(f"wanted a timing of {', '.join(TIMINGS)}, or a file of measured steps; got {text}")
    return timing_from_file(Path(text))
