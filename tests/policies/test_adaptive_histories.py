"""No outcome that cannot be true teaches the default policy anything, and no history breaks it."""

import math
import pickle
from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.policies import Candidate, Outcome, ReplicaId, RoutedRequest, replay
from kvplane.policies.adaptive import Adaptive, AdaptiveSettings
from kvplane.policies.field import COLUMNS

FLEET = A, B, C, D = tuple(ReplicaId(name) for name in "abcd")
IDLE = [Candidate(each) for each in FLEET]
GOOD = Outcome(A, 1000, 200, 8, queue_ms=3.0, prefill_ms=90.0, total_ms=400.0, steps=2, step_tokens=1600)
WRONG = (math.nan, math.inf, -math.inf, -1, 1e12, 10**400)
REASONS = {
    "only candidate",
    "exploring",
    "cold: least busy",
    "cold: to a replica not chosen before",
    "another copy: those that hold the prefix are busy",
    "longest prefix",
    "equal prefixes: least busy",
    "shorter wait outweighs a longer prefix",
    "others' wait outweighs a longer prefix",
    "nearer tier outweighs a longer prefix",
    "free room outweighs a longer prefix",
    *(
        f"{what}: tie, {how}"
        for what in ("cold", "equal prefixes", "equal cost")
        for how in ("drawn", "fewer ongoing", "least recently chosen")
    ),
}


def adaptive(explore: float = 0.0) -> Adaptive:
    return Adaptive(AdaptiveSettings(explore=explore), Random(0))


@pytest.mark.parametrize("number", WRONG)
@pytest.mark.parametrize(
    "told",
    ["prompt_tokens", "cached_tokens", "output_tokens", "queue_ms", "prefill_ms", "total_ms", "steps", "step_tokens"],
)
def test_outcomes_that_cannot_be_true_teach_nothing_at_all(told: str, number: float) -> None:
    policy = adaptive()
    choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)
    policy.learn(choice, GOOD)
    before = pickle.dumps(policy)
    for known in (choice, None):
        policy.learn(known, replace(GOOD, **{told: number}))  # type: ignore[arg-type]

    assert pickle.dumps(policy) == before


@pytest.mark.parametrize(
    "told", [{"output_tokens": 0}, {"cached_tokens": 1000}, {"cached_tokens": 1001}, {"prompt_tokens": 0}]
)
def test_outcomes_without_a_token_or_with_nothing_to_compute_teach_nothing(told: dict[str, int]) -> None:
    policy = adaptive()
    choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)
    before = pickle.dumps(policy)
    policy.learn(choice, replace(GOOD, **told))  # type: ignore[arg-type]

    assert pickle.dumps(policy) == before


def test_an_outcome_that_can_be_true_teaches_something() -> None:
    policy = adaptive()
    before = pickle.dumps(policy)
    policy.learn(None, GOOD)

    assert pickle.dumps(policy) != before


NUMBERS = st.one_of(st.integers(-2, 300), st.integers(0, 1 << 62), st.sampled_from(WRONG))
COUNTS = st.one_of(st.integers(0, 40), st.integers(0, 1 << 47), st.integers(0, 100_000))
REPLICAS = st.sampled_from([*FLEET, ReplicaId("e")])
TIMES_S = st.one_of(st.sampled_from((0.0, *WRONG[:3])), st.floats(1.6e9, 1.6e9 + 100), st.floats(0, 1e12))


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    return [draw(candidates(name)) for name in draw(st.lists(REPLICAS, min_size=1, max_size=5, unique=True))]


def candidates(name: ReplicaId) -> st.SearchStrategy[Candidate]:
    """One of many has a number that cannot be true."""
    counts = dict.fromkeys(COLUMNS, COUNTS)
    any_count = st.builds(Candidate, st.just(name), **counts, known=st.booleans(), fresh=st.booleans())
    wrong = st.tuples(st.sampled_from(COLUMNS), st.sampled_from(WRONG))
    lies = st.builds(lambda made, lie: msgspec.structs.replace(made, **dict([lie])), any_count, wrong)
    return st.one_of(any_count, any_count, any_count, lies)


REQUESTS = st.builds(RoutedRequest, NUMBERS, COUNTS, st.sampled_from((1, 16, 512, 0)), at_s=TIMES_S)
TOLD = st.builds(Outcome, REPLICAS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
GIVEN = st.one_of(TOLD, st.builds(replace, st.just(GOOD), replica=REPLICAS, prefill_ms=st.floats(0, 1e6)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(REQUESTS, fleets(), st.lists(st.tuples(GIVEN, st.integers(-1, 20)), max_size=4)), max_size=12),
    st.sampled_from((0.0, 0.1, 1.0)),
)
def test_after_any_history_a_candidate_is_chosen_at_finite_costs_and_a_chance(
    history: list[tuple[RoutedRequest, list[Candidate], list[tuple[Outcome, int]]]], explore: float
) -> None:
    policy, choices = adaptive(explore=explore), []
    for request, fleet, outcomes in history:
        choice = policy.choose(request, fleet)
        choices.append(choice)
        for outcome, of in outcomes:
            policy.learn(choices[of % len(choices)] if of >= 0 else None, outcome)

        assert {choice.replica} <= choice.scores.keys() == {each.replica for each in fleet}
        assert all(math.isfinite(cost) for cost in choice.scores.values())
        assert all(math.isfinite(value) for value in choice.basis.values())
        assert explore / len(fleet) <= choice.propensity <= 1
        assert choice.propensity > 0
        assert 0 <= choice.basis["weight"] <= 8
        assert choice.reason in REASONS
        assert replay("adaptive", choice.basis, request, fleet) == choice
