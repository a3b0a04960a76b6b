"""The flood benchmark: what victims lose beside one tenant at many times its quota, and what that one may write."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kvplane.controlplane.accounts import OverLimit
from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.front import Limits, Routed
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.timing import timing_named
from kvplane.policies import PolicySettings

from .flood_rows import FloodRow
from .flood_traffic import FLOOD, Traffic
from .flood_written import Written, written
from .replays import say

How = Literal["none", "unlimited"] | OverLimit
KEPT, SLOWER = 0.95, 1.2  # of the victims' hit rate, at least, and times their TTFT, at most: beside a limited flood
HARMED, MUCH_SLOWER = 0.70, 3.0  # the other way about, beside an unlimited one, or there was nothing to limit
USABLE = 0.95  # of the rate
FLEET = FleetSettings(timing_named("h100_8b"), replicas=8, blocks=3072, lag_s=0.05, max_tokens=256)


@dataclass(frozen=True, slots=True)
class Victims:
    """What they got while it lasted; NaN where there are none."""

    hit_rate: float
    ttft_ms: float


@dataclass(frozen=True, slots=True)
class Flooded:
    """One run."""

    victims: Victims
    refused: int
    written: Written | None  # None: nothing was limited, or there was no flood


def flood(traffic: Traffic, routers: Sequence[int], rules: Sequence[OverLimit], store_s: float) -> Iterator[FloodRow]:
    """Run without a flood, beside an unlimited one, and beside one under each rule, by so many routers each."""
    floods: Sequence[How] = ("unlimited", *rules)
    for count in routers:
        fleet = replace(FLEET, routers=count)
        quiet = flooded(traffic, fleet, "none")
        yield _row(count, "none", quiet, quiet)
        for how in floods:
            row = _row(count, how, flooded(traffic, fleet, how, store_s), quiet)
            say(f"{count} routers, {how}: {row.hit_ratio:.3f} of the hit rate, {row.ttft_ratio:.2f} of the TTFT")
            yield row


def flooded(traffic: Traffic, fleet: FleetSettings, how: How, store_s: float = 0.0) -> Flooded:
    """Run once: without a flood, beside an unlimited one, or beside one under a rule."""
    routed: dict[int, Routed] = {}
    rules = None if how == "none" or how == "unlimited" else traffic.rules(how)
    run = replay(
        traffic.trace(how != "none"),
        PolicySettings(),
        fleet,
        limits=None if rules is None else Limits({FLOOD: rules}, store_s),
        decided=routed.__setitem__,
    )
    wrote = None if rules is None else written(run, routed, FLOOD, rules, traffic.block_tokens, fleet.lag_s)
    return Flooded(victims(run, traffic.quiet_s), int((~run.served).sum()), wrote)


def victims(run: Run, since_s: float) -> Victims:
    """What all tenants but the flood got, of the requests since then."""
    flooding = run.tenants.index(FLOOD) if FLOOD in run.tenants else -1
    its = (run.tenant != flooding) & (run.arrived_ms >= since_s * 1e3)
    assert run.served[its].all()
    if not its.any():
        return Victims(math.nan, math.nan)
    hit_rate = float(run.cached_tokens[its].sum() / run.prompt_tokens[its].sum())
    return Victims(hit_rate, float(np.mean(run.ttft_ms[its])))


def _row(routers: int, how: How, found: Flooded, quiet: Flooded) -> FloodRow:
    wrote = found.written or Written(0, 0, 0.0, 0.0, 0, 0.0)
    hits = found.victims.hit_rate / quiet.victims.hit_rate
    ttft = found.victims.ttft_ms / quiet.victims.ttft_ms
    return FloodRow(
        routers=routers,
        flood=how,
        hit_rate=found.victims.hit_rate,
        ttft_ms=found.victims.ttft_ms,
        hit_ratio=hits,
        ttft_ratio=ttft,
        refused=found.refused,
        within=wrote.within,
        beyond=wrote.beyond,
        allowed=wrote.allowed,
        ahead=wrote.ahead,
        underpredicted=wrote.underpredicted,
        usable=wrote.usable,
        verdict=verdict(how, hits, ttft, found.written),
    )


def verdict(how: How, hits: float, ttft: float, wrote: Written | None) -> str:
    """Met or missed; a flood without limits must do harm, or the others show nothing."""
    if how == "none":
        return ""
    if wrote is None:
        return "harm, as it should" if hits <= HARMED and ttft >= MUCH_SLOWER else "MISSED: little harm"
    missed = [
        *(["hit rate"] if hits < KEPT else []),
        *(["TTFT"] if ttft > SLOWER else []),
        *([] if wrote.bounded else ["bound"]),
        *(["usable"] if wrote.usable < USABLE else []),
    ]
    return f"MISSED: {', '.join(missed)}" if missed else "met"
