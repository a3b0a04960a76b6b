"""Dynamo's cost worked by hand: prompts of 100 tokens in blocks of 10."""

from collections import Counter
from math import exp
from random import Random

import pytest

from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest
from kvplane.policies.dynamo import Dynamo, DynamoSettings, decide

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")
REQUEST = RoutedRequest(prompt_tokens=100, max_tokens=50, block_tokens=10)
DOCUMENTED = (
    Candidate(A, 20, 20, 20, decode_blocks=10),
    Candidate(B, 50, 50, 50, decode_blocks=5),
    Candidate(C, 80, 80, 80, decode_blocks=9),
)


def choose(*candidates: Candidate, **knobs: float) -> Choice:
    return Dynamo(DynamoSettings.model_validate(knobs), Random(0)).choose(REQUEST, candidates)


def test_the_example_of_its_documentation() -> None:
    # There: (10 - 2) + 10 = 18, (10 - 5) + 5 = 10, (10 - 8) + 9 = 11. Here each has the prompt's 10 blocks on top.
    choice = choose(*DOCUMENTED)

    assert (choice.replica, choice.reason, choice.propensity) == (B, "lowest cost", 1.0)
    assert choice.scores == {A: 18 + 10, B: 10 + 10, C: 11 + 10}


def test_a_higher_prefill_scale_prefers_the_longer_prefix() -> None:
    # a: 4 x 8 + 20, b: 4 x 5 + 15, c: 4 x 2 + 19.
    choice = choose(*DOCUMENTED, prefill_load_scale=4)

    assert (choice.replica, choice.scores) == (C, {A: 52, B: 35, C: 27})


def test_waiting_tokens_are_prefill_and_far_tiers_save_less() -> None:
    # a: 3 waiting + 10 - (2 in gpu + .75 x 4 in cpu + .25 x 2 on disk) = 7.5, and 10 decode blocks.
    choice = choose(Candidate(A, 20, 60, 80, waiting_prefill_tokens=30), Candidate(B, waiting_prefill_tokens=5))

    assert choice.scores == {A: 17.5, B: 20.5}


def test_credit_takes_prefill_to_zero_and_no_further() -> None:
    assert choose(Candidate(A, 80, 80, 80), overlap_score_credit=2).scores == {A: 10}


def test_a_prefix_never_counts_beyond_the_prompt() -> None:
    assert choose(Candidate(A, 500, 500, 500)).scores[A] == pytest.approx(10.1)  # the last token is computed


def test_what_is_in_gpu_is_counted_once_and_in_no_farther_tier() -> None:
    assert choose(Candidate(A, 50, 0, 0)).scores == choose(Candidate(A, 50, 50, 50)).scores == {A: 5 + 10}


def test_decay_halves_the_credit_of_one_request_of_backlog() -> None:
    # a waits for 10 blocks more than b: 20 + 10 - 8 / 2, b 10 + 10 - 4, and 10 decode blocks each.
    choice = choose(
        Candidate(A, 80, 80, 80, waiting_prefill_tokens=200),
        Candidate(B, 40, 40, 40, waiting_prefill_tokens=100),
        overlap_score_credit_decay=1,
    )

    assert choice.scores == {A: 26 + 10, B: 16 + 10}


def test_a_running_request_costs_its_weight() -> None:
    # a runs two that its page tells of; b has three of this router's own, not yet told of.
    choice = choose(Candidate(A, running_sequences=2), Candidate(B, ongoing=3), decode_active_request_weight=64)

    assert choice.scores == {A: 20 + 128, B: 20 + 192}


def test_temperature_draws_from_a_softmax_of_normalised_costs() -> None:
    # Costs 20 and 35 count as 0 and 1, so at temperature 1 a has 1 / (1 + 1/e) = 73 %.
    policy = Dynamo(DynamoSettings(temperature=1), Random(1))
    choices = [policy.choose(REQUEST, [Candidate(A), Candidate(B, decode_blocks=15)]) for _ in range(4000)]
    shares = Counter(choice.replica for choice in choices)
    chances = {choice.replica: round(choice.propensity, 9) for choice in choices}

    assert chances == {A: round(1 / (1 + exp(-1)), 9), B: round(exp(-1) / (1 + exp(-1)), 9)}
    assert abs(shares[A] / 4000 - chances[A]) < 0.03
    assert {choice.reason for choice in choices} == {"drawn by cost"}


def test_temperature_draws_evenly_among_equals_and_never_fails_when_tiny() -> None:
    assert choose(Candidate(A), Candidate(B), temperature=1).propensity == 0.5
    assert choose(Candidate(A, decode_blocks=1), Candidate(B), temperature=1e-300).replica == B


def test_a_draw_never_falls_on_a_chance_of_nothing() -> None:
    basis = DynamoSettings(temperature=1e-6).model_dump() | {"draw": 0.0}
    choice = decide(basis, REQUEST, [Candidate(A, decode_blocks=1), Candidate(B)])

    assert (choice.replica, choice.propensity) == (B, 1.0)


def test_equal_costs_go_to_the_one_with_fewer_ongoing() -> None:
    choice = choose(Candidate(A, ongoing=1), Candidate(B))

    assert (choice.replica, choice.reason) == (B, "equal cost: tie, fewer ongoing")
