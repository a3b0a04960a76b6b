"""Whole replays of small traces: every request is answered, alike each time, and what befalls the fleet shows."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.controlplane.replay.fleet import FleetSettings, Incident
from kvplane.controlplane.replay.references import infinite_extents, reused_tokens
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.summary import summarise
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import BadTrace, Trace
from kvplane.policies import (
    Candidate,
    Choice,
    Outcome,
    Policy,
    PolicyName,
    PolicySettings,
    RoutedRequest,
    build_policy,
)
from kvplane.tests.controlplane.replay.made_trace import BLOCK, conversations, prompts
from kvplane.workers import Ticket

TRACE = conversations()
FLEET = FleetSettings(timing_named("dynamo"), replicas=3, blocks=400, token_budget=512)


def run(name: PolicyName, trace: Trace = TRACE, fleet: FleetSettings = FLEET, seed: int = 1, **changes: Any) -> Run:
    return replay(trace, PolicySettings(name=name), replace(fleet, **changes), seed)


def same(one: Run, other: Run) -> bool:
    return all(
        np.array_equal(left, right, equal_nan=left.dtype.kind == "f") if isinstance(left, np.ndarray) else left == right
        for left, right in ((getattr(one, each.name), getattr(other, each.name)) for each in fields(Run))
    )


@pytest.mark.parametrize("name", ["estimated_ttft", "random", "dynamo"])
def test_the_same_seed_gives_the_same_run(name: PolicyName) -> None:
    assert same(run(name), run(name))


def test_another_seed_gives_another_run_where_chance_has_a_part() -> None:
    assert not same(run("random"), replace(run("random", seed=2), seed=1))


@pytest.mark.parametrize("name", ["estimated_ttft", "dynamo", "lmetric", "preble", "smg", "longest_prefix"])
def test_every_request_is_answered_once(name: PolicyName) -> None:
    found = run(name)

    assert found.served.all()
    assert (found.replica >= 0).all()
    assert (found.queue_ms >= 0).all()
    assert (found.ttft_ms > found.queue_ms).all()
    assert (found.e2e_ms >= found.ttft_ms).all()
    assert found.load.shape == (len(found.sampled_ms), 3)


def test_round_robin_places_by_number() -> None:
    assert run("round_robin").replica.tolist() == [number % 3 for number in range(100)]


def test_what_is_reused_is_what_a_replica_could_hold_and_routing_by_prefix_finds_more_of_it() -> None:
    by_prefix, by_number = run("estimated_ttft"), run("round_robin")
    most = reused_tokens(TRACE, infinite_extents(TRACE))

    assert (by_prefix.cached_tokens <= most).all()
    assert (by_prefix.cached_tokens % BLOCK == 0).all()
    assert by_prefix.cached_tokens.sum() > 1.3 * by_number.cached_tokens.sum() > 0


def test_a_prompt_is_found_by_its_own_tenant_only() -> None:
    # Blocks 1 to 4, thrice, a second apart: whole blocks but the last come back to a, nothing comes to b.
    asked = prompts((0, 1, 4), (1000, 1, 4), (2000, 1, 4), tenants="aba")

    for name in ("round_robin", "estimated_ttft"):
        assert run(name, asked, replicas=1).cached_tokens.tolist() == [0, 0, 48]


def test_a_router_sends_a_prompt_to_where_it_heard_that_it_is() -> None:
    asked = prompts((0, 100, 20), (1000, 200, 20), (2000, 300, 20), (3000, 200, 20), (4000, 100, 20), (5000, 300, 20))
    found = run("estimated_ttft", asked)

    assert found.cached_tokens.tolist() == [0, 0, 0, 304, 304, 304]
    assert found.replica[3:].tolist() == found.replica[[1, 0, 2]].tolist()


class Predicting:
    """A policy, and how much of each prompt its routers expected where they sent it."""

    def __init__(self, policy: Policy, expected: list[int]) -> None:
        self._policy = policy
        self._expected = expected

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        choice = self._policy.choose(request, candidates)
        self._expected += [each.cached_tokens for each in candidates if each.replica == choice.replica]
        return choice

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        self._policy.learn(choice, outcome)


def predicted(name: PolicyName, trace: Trace, **changes: Any) -> tuple[list[int], list[int]]:
    """Cached tokens of each request: what the router expected, what the replica found."""
    expected: list[int] = []
    found = replay(
        trace,
        PolicySettings(name=name),
        replace(FLEET, **changes),
        build=lambda settings, random: Predicting(build_policy(settings, random), expected),
    )
    return expected, found.cached_tokens.tolist()


@pytest.mark.parametrize("routers", [1, 3])
def test_in_a_quiet_replay_a_replica_finds_exactly_what_the_router_expected(routers: int) -> None:
    quiet = conversations(60, apart_ms=3000.0)
    expected, found = predicted("estimated_ttft", quiet, routers=routers)

    assert expected == found
    assert sum(found) > 0


def test_blocks_that_were_evicted_are_not_expected() -> None:
    # Room for 20 blocks: of the 15 that are asked for first, 10 make way for the next 15.
    asked = prompts((0, 100, 15), (9000, 200, 15), (18_000, 100, 15))
    expected, found = predicted("estimated_ttft", asked, replicas=1, blocks=20)

    assert expected == found
    assert 0 <= found[2] <= 5 * BLOCK


def test_what_another_router_sent_is_expected_once_it_is_heard_of() -> None:
    # Two routers take turns. At 1 s of lag the second has not heard at 400 ms of what the first sent at 0.
    asked = prompts((0, 100, 20), (400, 100, 20), (11_000, 900, 20), (12_000, 100, 20))

    assert predicted("estimated_ttft", asked, routers=2) == ([0, 304, 0, 304], [0, 304, 0, 304])
    assert predicted("estimated_ttft", asked, routers=2, lag_s=1.0) == ([0, 0, 0, 304], [0, 0, 0, 304])


def test_a_router_expects_what_its_own_requests_leave_before_it_hears_of_it() -> None:
    asked = prompts((0, 100, 20), (400, 100, 20))

    assert predicted("estimated_ttft", asked, lag_s=1.0) == ([0, 304], [0, 304])


def test_several_late_routers_answer_all_and_find_no_more_than_one_prompt_one() -> None:
    one, several = run("estimated_ttft"), run("estimated_ttft", routers=4, lag_s=0.5)

    assert several.served.all()
    assert 0.5 * one.cached_tokens.sum() < several.cached_tokens.sum() <= one.cached_tokens.sum()


def test_routers_that_cannot_see_one_another_spread_a_burst_since_replicas_decline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = prompts(*[(0, 100 * number, 30) for number in range(12)])
    spread = run("estimated_ttft", burst, routers=12, lag_s=0.5)
    monkeypatch.setattr(Ticket, "suits", lambda ticket, replica, waiting_tokens: True)
    blind = run("estimated_ttft", burst, routers=12, lag_s=0.5)

    assert spread.declines > 0 == blind.declines
    assert spread.ttft_ms.mean() < 0.9 * blind.ttft_ms.mean()
    assert spread.served.all()


def test_what_a_replica_that_leaves_was_serving_is_answered_by_the_others() -> None:
    whole = run("round_robin")
    at_ms = float(TRACE.requests[50].at_ms) + 1.0  # request 50 is on replica 2
    found = run("round_robin", incidents=(Incident(at_ms, "leaves", 2),))

    assert found.served.all()
    assert set(found.replica[51:].tolist()) == {0, 1}
    assert found.replica[50] != 2
    assert found.ttft_ms[50] > whole.ttft_ms[50]
    assert found.e2e_ms[50] > 1.0


@pytest.mark.parametrize("name", ["estimated_ttft", "least_loaded"])
def test_a_replica_that_joins_a_busy_fleet_gets_work_from_then_on(name: PolicyName) -> None:
    busy = conversations(200, apart_ms=3.0)
    found = run(name, busy, incidents=(Incident(float(busy.requests[50].at_ms), "joins", 3),))

    assert len(found.replicas) == 4
    assert not (found.replica[:50] == 3).any()
    assert (found.replica[51:] == 3).sum() >= 15
    assert found.cached_tokens[found.replica == 3].sum() > 0
    assert (found.load[found.sampled_ms < busy.requests[50].at_ms, 3] == 0).all()


def test_a_replica_that_comes_back_is_empty_and_is_found_again() -> None:
    asked = prompts((0, 100, 20), (3000, 100, 20), (4000, 100, 20))
    gone = (Incident(1000, "leaves", 0), Incident(2000, "joins", 0), Incident(2500, "leaves", 1))
    found = run("estimated_ttft", asked, replicas=2, incidents=gone)
    first = run("estimated_ttft", asked, replicas=2).replica[0]

    assert found.replica.tolist() == [first, 0, 0]
    assert found.cached_tokens.tolist() == [0, 0, 304]


def test_a_replica_that_slows_takes_longer_from_then_on() -> None:
    asked = prompts(*((1000.0 * at, 100 * at, 20) for at in range(4)), output_tokens=10)
    even = run("round_robin", asked, replicas=1)
    found = run("round_robin", asked, replicas=1, incidents=(Incident(1500, "slows", 0, 3.0),))

    assert found.e2e_ms[:2] == pytest.approx(even.e2e_ms[:2])
    assert found.e2e_ms[2:] == pytest.approx(3 * even.e2e_ms[2:])


def test_a_long_answer_under_way_slows_too() -> None:
    # 999 tokens behind the first take the same each, nearly; from half of them on ten times as long.
    asked = prompts((0, 100, 20), output_tokens=1000)
    even = run("round_robin", asked, replicas=1)
    at_ms = float(even.ttft_ms[0] + (even.e2e_ms[0] - even.ttft_ms[0]) / 2)
    found = run("round_robin", asked, replicas=1, incidents=(Incident(at_ms, "slows", 0, 10.0),))

    assert found.tpot_ms[0] == pytest.approx(5.5 * even.tpot_ms[0], rel=0.05)


def test_the_oracle_is_at_least_as_soon_as_round_robin() -> None:
    oracle, blind = replay(TRACE, None, FLEET), run("round_robin")

    assert oracle.policy == "oracle"
    assert oracle.served.all()
    assert summarise(oracle).ttft_mean_ms < 0.95 * summarise(blind).ttft_mean_ms


def test_a_request_too_large_for_any_replica_is_told_before_anything_is_replayed() -> None:
    # 319 tokens of prompt and 3 of answer, of which the last is never stored: 321, one more than 20 blocks hold.
    asked = [prompts((0, 1, 4), (1, 100, 20), output_tokens=output_tokens) for output_tokens in (2, 3)]
    told: list[int] = []

    with pytest.raises(BadTrace, match=r"fit in 20 blocks of 16 tokens.* request 2 of 2 takes 21"):
        replay(asked[1], PolicySettings(), replace(FLEET, blocks=20), 1, told.append)
    assert told == []
    assert run("round_robin", asked[0], blocks=20).served.all()


def test_a_trace_of_nothing_cannot_be_replayed() -> None:
    with pytest.raises(BadTrace, match="at least one request"):
        run("round_robin", Trace("empty", 16, []))


def test_progress_counts_requests() -> None:
    told: list[int] = []
    replay(prompts((0, 1, 4), (1, 100, 20)), PolicySettings(), FLEET, 1, told.append)

    assert told == [1, 2]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    name=st.sampled_from(["estimated_ttft", "random", "longest_prefix"]),
    spare_blocks=st.integers(0, 200),
    apart_ms=st.sampled_from([2.0, 30.0, 400.0]),
    lag_s=st.sampled_from([0.0, 0.2]),
)
def test_no_token_is_lost_no_time_is_negative_and_no_cache_overflows(
    seed: int, name: PolicyName, spare_blocks: int, apart_ms: float, lag_s: float
) -> None:
    trace = conversations(30, sessions=4, seed=seed, apart_ms=apart_ms)
    blocks = spare_blocks + max(-(-(each.prompt_tokens + each.output_tokens) // BLOCK) for each in trace.requests)
    found = run(name, trace, replicas=2, blocks=blocks, lag_s=lag_s)
    prompt_tokens = np.array([each.prompt_tokens for each in trace.requests])

    assert found.served.all()
    assert (found.prompt_tokens == prompt_tokens).all()
    assert ((found.cached_tokens >= 0) & (found.cached_tokens < prompt_tokens)).all()
    in_order = not found.declines  # whom a replica declines may come to the next behind who came later
    assert not in_order or (found.cached_tokens <= reused_tokens(trace, infinite_extents(trace))).all()
    assert ((found.queue_ms >= 0) & (found.queue_ms < found.ttft_ms) & (found.ttft_ms <= found.e2e_ms)).all()
    assert (found.duplicates <= blocks).all()
