"""E2 worked by hand: 10 ms base, 1 ms a token, no pair term, 100 ms of decoding a request."""

from random import Random

import pytest

from kvplane.policies import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from kvplane.policies.preble import Preble, PrebleSettings
from kvplane.policies.rates import RateSettings

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")
REQUEST = RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=10)
RATES = RateSettings(base_ms=10, token_ms=1, token_pair_ms=1e-12)


def built(**knobs: float) -> Preble:
    settings = PrebleSettings.model_validate({"decode_ms": 100, "rates": RATES, **knobs})
    return Preble(settings, Random(0))


def costs(choice: Choice) -> dict[ReplicaId, float]:
    return {replica: round(cost, 3) for replica, cost in choice.scores.items()}


def held(replica: ReplicaId, tokens: int, running: int = 0) -> Candidate:
    return Candidate(replica, tokens, tokens, tokens, running_sequences=running)


def test_a_cold_prompt_explores_for_the_least_load() -> None:
    # a: 2 x 100 of decoding + 1010 of prefill.
    choice = built().choose(REQUEST, [held(A, 0, running=2), held(B, 0)])

    assert (choice.replica, choice.reason) == (B, "explore: least load and eviction")
    assert costs(choice) == {A: 1210, B: 1010}


def test_prefill_given_to_a_replica_is_its_load() -> None:
    policy = built()
    first = policy.choose(REQUEST, [held(B, 0), held(C, 0, running=1)])
    second = policy.choose(REQUEST, [held(B, 0), held(C, 0, running=1)])

    assert (first.replica, second.replica) == (B, C)
    assert costs(second) == {B: 1010 + 1010, C: 100 + 1010}


def test_load_is_forgotten_with_the_window() -> None:
    policy = built(window_requests=3)
    for replica in (A, A, B, C):
        policy.choose(REQUEST, [held(replica, 0)])

    assert costs(policy.choose(REQUEST, [held(A, 0), held(B, 0), held(C, 0)])) == {A: 2020, B: 2020, C: 2020}


def test_a_replica_that_left_is_forgotten_with_the_window() -> None:
    policy = built(window_requests=1)
    named = [
        {name for name in policy.choose(REQUEST, [held(replica, 0)]).basis if name.startswith("assigned_ms:")}
        for replica in (A, B, B)
    ]

    assert named == [set(), {"assigned_ms:a"}, {"assigned_ms:b"}]


def test_a_prefix_longer_than_the_rest_is_exploited_however_busy_its_holder() -> None:
    # b stands behind a: a's load of 3000, then its own cost of 1010.
    choice = built().choose(REQUEST, [held(A, 510, running=30), held(B, 0)])

    assert (choice.replica, choice.reason) == (A, "exploit: least loaded holder")
    assert costs(choice) == {A: 3000, B: 4010}


def test_half_a_prompt_is_not_longer_than_the_rest() -> None:
    # a: 30 x 100 + 10 + 500.
    choice = built().choose(REQUEST, [held(A, 500, running=30), held(B, 0)])

    assert (choice.replica, costs(choice)) == (B, {A: 3510, B: 1010})


def test_of_several_holders_the_least_loaded_is_exploited() -> None:
    choice = built().choose(REQUEST, [held(A, 800, running=2), held(B, 800, running=1), held(C, 700)])

    assert (choice.replica, costs(choice)) == (B, {A: 200, B: 100, C: 200 + 310})


def test_the_heaviest_sheds_what_it_would_exploit() -> None:
    # a carries 400, b 200: beyond 1.5 times.
    shed = built(rebalance_after=0).choose(REQUEST, [held(A, 800, running=4), held(B, 0, running=2)])
    kept = built(rebalance_after=0).choose(REQUEST, [held(A, 800, running=3), held(B, 0, running=2)])
    early = built(rebalance_after=1).choose(REQUEST, [held(A, 800, running=4), held(B, 0, running=2)])

    assert (shed.replica, shed.reason, costs(shed)) == (B, "rebalance: lightest replica", {A: 400, B: 200})
    assert (kept.replica, early.replica) == (A, A)


def test_a_short_window_does_not_keep_it_from_shedding() -> None:
    policy = built(rebalance_after=3, window_requests=1)
    reasons = [policy.choose(REQUEST, [held(A, 800, running=30), held(B, 0)]).reason for _ in range(4)]

    assert reasons == ["exploit: least loaded holder"] * 3 + ["rebalance: lightest replica"]


def test_a_holder_that_is_not_the_heaviest_keeps_its_own() -> None:
    choice = built(rebalance_after=0).choose(REQUEST, [held(A, 800, running=4), held(B, 0, running=5), held(C, 0)])

    assert choice.replica == A


def test_decode_times_and_reuse_are_learned() -> None:
    # 700 less 100 of queue and 510 of prefill is 90 of decoding. Half was reused, so eviction costs half a prefill.
    policy = built()
    policy.learn(Choice(A, "", 1.0, {}), Outcome(A, 1000, 500, 20, 100.0, 510.0, 700.0))
    choice = policy.choose(REQUEST, [held(A, 0, running=2), held(B, 0)])

    assert choice.scores[A] == pytest.approx(2 * 90 + 1.5 * 1010, rel=1e-3)
    assert choice.scores[B] == pytest.approx(1.5 * 1010, rel=1e-3)


def test_prefill_rates_are_learned() -> None:
    # Twice as slow as believed: 20 + 2 x 1000.
    policy = built()
    for _ in range(50):
        policy.learn(Choice(A, "", 1.0, {}), Outcome(A, 1000, 0, 20, 0.0, 2020.0, 2120.0))
    choice = policy.choose(REQUEST, [held(A, 0), held(B, 0)])

    assert choice.scores[A] == pytest.approx(2020, rel=0.02)


def test_what_another_router_placed_is_load_when_its_outcome_comes() -> None:
    policy = built()
    policy.learn(None, Outcome(A, 1000, 0, 20, 0.0, 1010.0, 1110.0))
    choice = policy.choose(REQUEST, [held(A, 0), held(B, 0)])

    assert choice.replica == B
    assert choice.basis["assigned_ms:a"] == 1010


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(A, 1000, 500, 0, 100.0, 510.0, 700.0),  # no token came
        Outcome(A, 1000, 2000, 20, 100.0, 510.0, 700.0),  # more reused than asked
        Outcome(A, 1000, 500, 20, 100.0, 510.0, 300.0),  # over before its first token
        Outcome(A, 1000, 500, 20, 100.0, float("nan"), 700.0),
        Outcome(A, 1000, 500, 20, 100.0, -1.0, 700.0),
    ],
)
def test_outcomes_that_cannot_be_true_teach_nothing(outcome: Outcome) -> None:
    taught, fresh = built(), built()
    taught.learn(None, outcome)
    field = [held(A, 0, running=2), held(B, 0)]

    assert taught.choose(REQUEST, field) == fresh.choose(REQUEST, field)
