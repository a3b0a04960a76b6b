"""What is simulated, and what happens to it on the way."""

from dataclasses import dataclass
from typing import Literal

from .simulated_replica import SimulatedReplica
from .timing import Slowed, Timing
from .trace import BadTrace, Trace


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that befalls a replica during a replay."""

    at_ms: float
    kind: Literal["leaves", "joins", "slows"]
    replica: int  # its number; one that joins has a number of its own
    factor: float = 1.0  # of the time that every step takes from here on


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Replicas of one kind, and routers that learn of them `lag_s` late."""

    timing: Timing
    replicas: int = 8
    blocks: int = 2048  # of KV cache on each
    cpu_blocks: int = 0
    disk_blocks: int = 0
    max_sequences: int = 256
    token_budget: int = 8192  # new tokens a step computes at most
    routers: int = 1
    lag_s: float = 0.0  # from a replica's word to a router's ear
    round_trip_s: float = 0.002  # that a ticket takes which its replica declines
    heartbeat_s: float = 1.0  # the slowest there is: whatever a replica does it says at once
    max_tokens: int = 1024  # what clients allow, which is all that a router knows of an answer's length
    incidents: tuple[Incident, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every replica that there will be, by number."""
        joining = [incident.replica for incident in self.incidents if incident.kind == "joins"]
        return tuple(f"replica-{number:04}" for number in range(max([self.replicas, *(each + 1 for each in joining)])))

    def replica(self, block_tokens: int, slowed: float = 1.0) -> SimulatedReplica:
        """One of them, whose cache is empty and whose steps take so many times as long."""
        return SimulatedReplica(
            Slowed(self.timing, slowed),
            blocks=self.blocks,
            block_tokens=block_tokens,
            max_sequences=self.max_sequences,
            token_budget=self.token_budget,
            cpu_blocks=self.cpu_blocks,
            disk_blocks=self.disk_blocks,
        )


def check_fit(trace: Trace, fleet: FleetSettings) -> None:
    """Raise `BadTrace` unless each request, with its answer but the last token, fits in an empty cache."""
    if not trace.requests:
        raise BadTrace(trace.name, None, "wanted at least one request, got none")
    for number, each in enumerate(trace.requests, 1):
        blocks = -(-(each.prompt_tokens + max(1, each.output_tokens) - 1) // trace.block_tokens)
        if blocks > fleet.blocks:
            raise BadTrace(
                trace.name,
                None,
                f"wanted requests that fit in {fleet.blocks} blocks of {trace.block_tokens} tokens, all that a replica "
                f"has; request {number} of {len(trace.requests)} takes {blocks}",
            )
