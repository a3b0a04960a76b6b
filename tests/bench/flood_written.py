"""What a flood wrote, held against what its limit allows at every moment of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvplane.controlplane.accounts import Rules
from kvplane.controlplane.replay.front import Routed
from kvplane.controlplane.replay.run import Floats, Ints, Run

_GRAIN = 1e-3  # of a block: times are rounded
_PAID_S = 0.3  # a debt rests in its router for an idle period and a round of tidying before the bucket hears of it


@dataclass(frozen=True, slots=True)
class Written:
    """Blocks of one tenant, of requests within its limit and of those beyond."""

    within: int
    beyond: int
    allowed: float  # burst and rate x time, from its first request let in to its last
    ahead: float  # the most that was written beyond what was allowed by then; below 0: never
    underpredicted: int  # the most that was written and neither charged nor paid at one time
    usable: float  # written within, less the burst, of rate x time

    @property
    def bounded(self) -> bool:
        """Whether it never wrote more than the limit and what nobody could know."""
        return self.ahead <= self.underpredicted + _GRAIN


def written(
    run: Run, routed: Mapping[int, Routed], tenant: str, rules: Rules, block_tokens: int, lag_s: float
) -> Written:
    """Take stock of a run; `routed` has its requests that were let in."""
    blocks = -(-(run.prompt_tokens - run.cached_tokens + run.output_tokens) // block_tokens)
    its = [number for number, each in routed.items() if run.tenants[run.tenant[number]] == tenant]
    within = [number for number in its if routed[number].decision.over_limit is None]
    at_s = np.array([routed[number].decision.at_ns / 1e9 for number in within])
    assert rules.write_blocks_per_minute is not None
    rate = rules.write_blocks_per_minute / 60
    burst = rules.write_burst_blocks or rules.write_blocks_per_minute
    arrived_s = run.arrived_ms[run.tenant == run.tenants.index(tenant)] / 1e3
    filled = rate * float(arrived_s[-1] - arrived_s[0])
    total = int(blocks[within].sum())
    paid_s = at_s + run.e2e_ms[within] / 1e3 + lag_s + _PAID_S
    short = np.maximum(0, blocks[within] - np.array([routed[number].charged_blocks for number in within]))
    return Written(
        within=total,
        beyond=int(blocks[its].sum()) - total,
        allowed=burst + filled,
        ahead=float((np.cumsum(blocks[within]) - burst - rate * (at_s - at_s[0])).max()),
        underpredicted=_at_once(at_s, paid_s, short),
        usable=(total - burst) / filled,
    )


def _at_once(from_s: Floats, until_s: Floats, blocks: Ints) -> int:
    """The most blocks that were open at one time."""
    moments: Sequence[tuple[float, int]] = sorted(
        [*zip(from_s.tolist(), blocks.tolist(), strict=True), *zip(until_s.tolist(), (-blocks).tolist(), strict=True)]
    )
    return int(np.cumsum([change for _, change in moments]).max(initial=0))
