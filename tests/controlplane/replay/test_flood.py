"""One tenant far beyond its quota, in replays with the real limiter: what it writes, and what others lose by it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from kvplane.controlplane.accounts import OverLimit, Rules
from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.front import Limits, Routed
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import Trace
from kvplane.controlplane.tenant_slice import slice_of
from kvplane.policies import PolicySettings, ReplicaId
from kvplane.tests.bench.flood import FLEET, HARMED, KEPT, MUCH_SLOWER, SLOWER, USABLE, How, Victims, flooded
from kvplane.tests.bench.flood_traffic import Traffic
from kvplane.tests.bench.flood_written import Written, written
from kvplane.tests.controlplane.replay.made_trace import BLOCK, conversations, prompts

SMALL = FleetSettings(timing_named("dynamo"), replicas=3, blocks=400, token_budget=512, max_tokens=4)
# Long prompts, so that few of them are a flood.
TRAFFIC = Traffic(
    seconds=36.0,
    quiet_s=12.0,
    victims=3,
    sessions=30,
    think_s=8.0,
    write_blocks_per_minute=4800,
    write_burst_blocks=600,
    flood_blocks=128,
)
ALONE = Traffic(
    seconds=80.0, quiet_s=0.0, victims=0, write_blocks_per_minute=480, write_burst_blocks=240, flood_blocks=8
)


def run(trace: Trace, rules: Mapping[str, Rules] | None, fleet: FleetSettings = SMALL) -> tuple[Run, dict[int, Routed]]:
    routed: dict[int, Routed] = {}
    limits = None if rules is None else Limits(rules)
    return replay(trace, PolicySettings(), fleet, limits=limits, decided=routed.__setitem__), routed


def tight(over: OverLimit) -> dict[str, Rules]:
    return {"acme": Rules(write_blocks_per_minute=8, over_write_limit=over)}


def test_rules_for_nobody_change_nothing() -> None:
    trace = conversations()
    without, _ = run(trace, None)
    idle, _ = run(trace, {"initech": Rules(write_blocks_per_minute=1)})

    assert without.replica.tolist() == idle.replica.tolist()
    assert without.cached_tokens.tolist() == idle.cached_tokens.tolist()
    np.testing.assert_allclose(without.e2e_ms, idle.e2e_ms, rtol=0.0, atol=1e-9)  # one more timer rounds the clock


def test_what_a_tenant_writes_comes_out_of_its_bucket() -> None:
    # 11 blocks each, of 30 at first and one a second: at 2 s and at 24.5 s there are not so many.
    asked = prompts(*((at_ms, 100 * at_ms + 100, 10) for at_ms in (0, 1000, 2000, 3500, 14_500, 24_500)))
    rules = Rules(write_blocks_per_minute=60, write_burst_blocks=30, over_write_limit="reject")
    found, routed = run(asked, {"acme": rules})
    wrote = written(found, routed, "acme", rules, BLOCK, 0.0)

    assert found.served.tolist() == [True, True, False, True, True, False]
    assert [each.charged_blocks for each in routed.values()] == [11] * 4
    assert (wrote.within, wrote.beyond, wrote.allowed, wrote.underpredicted) == (44, 0, 54.5, 0)
    assert wrote.ahead == pytest.approx(44 - 30 - 14.5)
    assert wrote.usable == pytest.approx(14 / 24.5)


def test_what_was_written_and_not_foreseen_is_known() -> None:
    # With an answer of 36 tokens a request is 13 blocks. Charged 11, two at once are 4 short; the third comes later.
    asked = prompts((0, 100, 10), (100, 9000, 10), (60_000, 18_000, 10))
    asked = replace(asked, requests=[replace(each, output_tokens=36) for each in asked.requests])
    rules = Rules(write_blocks_per_minute=6000, write_burst_blocks=20)
    found, routed = run(asked, {"acme": rules})
    fewer = {number: replace(each, charged_blocks=11) for number, each in routed.items()}

    assert written(found, routed, "acme", rules, BLOCK, 0.0).underpredicted == 0
    assert written(found, fewer, "acme", rules, BLOCK, 0.0).underpredicted == 4
    assert written(found, fewer, "acme", rules, BLOCK, 0.0).ahead == pytest.approx(26 - 20 - 100 * 0.1)


def test_a_prompt_that_bypasses_finds_nothing_and_leaves_nothing() -> None:
    asked = prompts((0, 100, 20), (5000, 100, 20), (10_000, 100, 20))

    assert run(asked, None)[0].cached_tokens.tolist() == [0, 304, 304]
    assert run(asked, tight("bypass"))[0].cached_tokens.tolist() == [0, 0, 0]


def test_a_confined_tenant_stays_in_its_slice() -> None:
    asked = prompts(*((10 * at, 1000 * at, 20) for at in range(1, 30)))
    found, _ = run(asked, tight("confine"))
    (only,) = slice_of("acme/replay", [ReplicaId(name) for name in SMALL.names])

    assert {SMALL.names[at] for at in found.replica} == {only}


@pytest.mark.parametrize("routers", [1, 8])
@pytest.mark.parametrize("store_s", [0.0, 0.02])
def test_a_flood_writes_all_that_it_may_and_no_more(routers: int, store_s: float) -> None:
    wrote = of_flood(ALONE, routers, store_s)

    assert wrote.bounded
    assert wrote.beyond == 0
    assert wrote.usable >= USABLE


def test_long_answers_after_short_ones_are_ahead_by_no_more_than_nobody_knew() -> None:
    wrote = of_flood(replace(ALONE, output_tokens=(1, 4000), times=20.0), routers=8, store_s=0.002)

    assert wrote.bounded
    assert wrote.ahead > 0
    assert wrote.beyond == 0


def of_flood(traffic: Traffic, routers: int, store_s: float) -> Written:
    wrote = flooded(traffic, replace(FLEET, routers=routers), "reject", store_s).written
    assert wrote is not None
    return wrote


def ratios(how: How, routers: int) -> tuple[float, float]:
    """The victims' hit rate and mean TTFT, over those without a flood."""
    found, quiet = victims_beside(how, routers), victims_beside("none", routers)
    return found.hit_rate / quiet.hit_rate, found.ttft_ms / quiet.ttft_ms


@cache
def victims_beside(how: How, routers: int) -> Victims:
    return flooded(TRAFFIC, replace(FLEET, blocks=1024, routers=routers), how).victims


@pytest.mark.parametrize("how", ["unlimited", "bypass"])
def test_a_flood_that_may_write_where_it_likes_ruins_its_neighbours(how: How) -> None:
    hits, ttft = ratios(how, 1)

    assert hits < HARMED
    assert ttft > MUCH_SLOWER


@pytest.mark.parametrize(("how", "routers"), [("reject", 1), ("confine", 1), ("reject", 8)])
def test_beside_a_limited_flood_others_do_as_without(how: How, routers: int) -> None:
    hits, ttft = ratios(how, routers)

    assert hits >= KEPT
    assert ttft <= SLOWER
