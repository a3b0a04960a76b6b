"""The routers benchmark: what is lost when several routers, each with a mirror of its own, hear of replicas late."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kvplane.controlplane.replay.compare import compare
from kvplane.controlplane.replay.summary import summarise
from kvplane.policies import PolicyName, PolicySettings

from .replays import Replay, Replays
from .several_routers_rows import RoutersRow
from .workloads import Part, fleet_for

LOST_POINTS, TTFT = 1.5, 1.05  # of hit rate, and of mean TTFT, at most


@dataclass(frozen=True, slots=True)
class Routers:
    """So many of them, and how late they hear."""

    count: int
    lag_ms: float
    policy: PolicyName
    timing: str


def several_routers(parts: Sequence[Part], routers: Routers, replays: Replays) -> Iterator[RoutersRow]:
    """Replay each trace by one router and by several, which take turns at the requests."""
    for part in parts:
        alone = fleet_for(part, routers.timing)
        several = replace(alone, routers=routers.count, lag_s=routers.lag_ms / 1e3)
        policy = PolicySettings(name=routers.policy)
        one, many = replays.run(
            [
                Replay(f"{part.name} {part.speedup:g}x, {fleet.routers} routers", part, policy, fleet)
                for fleet in (alone, several)
            ]
        )
        hits, ttft = compare([many], [one], "hit_rate"), compare([many], [one], "ttft_mean_ms")
        yield RoutersRow(
            part.name,
            part.speedup,
            part.requests,
            routers.count,
            routers.lag_ms,
            summarise(many).hit_rate,
            hits.ratio,
            hits.low,
            hits.high,
            ttft.ratio,
            ttft.low,
            ttft.high,
            hits.ratio >= -LOST_POINTS and ttft.ratio <= TTFT,
        )
