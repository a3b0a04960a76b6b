"""The default policy's sums, worked by hand: 10 ms base, 1 ms a token, no pair term, weight 2."""

from collections import Counter
from random import Random

import pytest

from kvplane.policies import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from kvplane.policies.estimated_ttft import EstimatedTtft, EstimatedTtftSettings
from kvplane.policies.rates import RateSettings

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")
REQUEST = RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=10)
SETTINGS = EstimatedTtftSettings(
    weight=2,
    sequence_tokens=16,
    cpu_us_per_token=100,
    disk_us_per_token=500,
    rates=RateSettings(base_ms=10, token_ms=1, token_pair_ms=1e-12),
)


def choose(*candidates: Candidate) -> Choice:
    return EstimatedTtft(SETTINGS, Random(0)).choose(REQUEST, candidates)


def costs(choice: Choice) -> dict[ReplicaId, float]:
    return {replica: round(cost, 3) for replica, cost in choice.scores.items()}


def test_the_longest_prefix_wins_among_equals() -> None:
    # a computes 200 tokens: 2 x (10 + 200) = 420. b computes all: 2 x (10 + 1000) = 2020.
    choice = choose(Candidate(A, 800, 800, 800), Candidate(B))

    assert (choice.replica, choice.reason, choice.propensity) == (A, "longest prefix", 1.0)
    assert costs(choice) == {A: 420, B: 2020}
    assert choice.predicted_ttft_ms == pytest.approx(210)  # the weight is a price, not a time


def test_a_long_queue_outweighs_a_prefix() -> None:
    # a: 1700 waiting + 2 x 210 = 2120, more than b's 2020.
    choice = choose(Candidate(A, 800, 800, 800, waiting_prefill_tokens=1700), Candidate(B))

    assert (choice.replica, choice.reason) == (B, "shorter wait outweighs a longer prefix")
    assert costs(choice) == {A: 2120, B: 2020}
    assert choice.predicted_ttft_ms == pytest.approx(1010)


def test_running_sequences_count_as_waiting_tokens() -> None:
    choice = choose(Candidate(A, running_sequences=3), Candidate(B, waiting_prefill_tokens=20))

    assert costs(choice) == {A: 2020 + 48, B: 2020 + 20}
    assert choice.reason == "cold: least busy"


def test_blocks_of_far_tiers_cost_their_fetch() -> None:
    # a: 400 in gpu, 200 more in cpu (20 ms), 200 more on disk (100 ms); 200 computed: 420 + 120.
    choice = choose(Candidate(A, 400, 600, 800), Candidate(B, 800, 800, 800))

    assert costs(choice) == {A: 540, B: 420}
    assert (choice.replica, choice.reason) == (B, "equal prefixes: least busy")


def test_a_dear_fetch_outweighs_a_longer_prefix() -> None:
    choice = choose(Candidate(A, 0, 0, 990), Candidate(B, 800, 800, 800))

    assert costs(choice) == {A: 535, B: 420}
    assert choice.reason == "nearer tier outweighs a longer prefix"


def test_a_full_replica_pays_for_what_it_must_evict() -> None:
    # a needs (200 + 100) / 10 = 30 blocks and has 10: 20 blocks of 10 tokens must make way, 200 ms.
    full = Candidate(A, 800, 800, 800, free_blocks=10, total_blocks=500)
    choice = choose(full, Candidate(B, 750, 750, 750, free_blocks=400, total_blocks=500))

    assert costs(choice) == {A: 620, B: 520}
    assert (choice.replica, choice.reason) == (B, "free room outweighs a longer prefix")


def test_a_replica_of_unknown_size_is_not_full() -> None:
    assert costs(choose(Candidate(A), Candidate(B, free_blocks=200, total_blocks=500))) == {A: 2020, B: 2020}


def test_cold_ties_are_broken_and_the_reason_says_how() -> None:
    assert choose(Candidate(A, ongoing=1), Candidate(B)).reason == "cold: tie, fewer ongoing"
    assert choose(Candidate(A, last_chosen=1), Candidate(B, last_chosen=5)).reason == "cold: tie, least recently chosen"

    drawn = choose(Candidate(A), Candidate(B), Candidate(C))

    assert (drawn.reason, drawn.propensity) == ("cold: tie, drawn", 1 / 3)


def test_what_nothing_tells_apart_is_spread_evenly() -> None:
    policy = EstimatedTtft(SETTINGS, Random(1))
    shares = Counter(policy.choose(REQUEST, [Candidate(A), Candidate(B), Candidate(C)]).replica for _ in range(3000))

    assert all(900 < shares[replica] < 1100 for replica in (A, B, C))


def test_equal_prefixes_are_told_from_cold_ones() -> None:
    choice = choose(Candidate(A, 500, 500, 500, ongoing=1), Candidate(B, 500, 500, 500))

    assert (choice.replica, choice.reason) == (B, "equal prefixes: tie, fewer ongoing")


def test_an_unknown_replica_is_taken_as_averagely_busy_and_cold() -> None:
    busy = Candidate(A, waiting_prefill_tokens=300)
    idle = Candidate(B, waiting_prefill_tokens=100)
    silent = Candidate(C, 900, 900, 900, known=False)

    assert costs(choose(busy, idle, silent)) == {A: 2320, B: 2120, C: 2220}


def test_a_single_candidate_is_chosen_as_such() -> None:
    choice = choose(Candidate(A, waiting_prefill_tokens=10**6))

    assert (choice.replica, choice.reason, choice.propensity) == (A, "only candidate", 1.0)


def test_the_rates_follow_the_outcomes() -> None:
    policy = EstimatedTtft(SETTINGS, Random(0))
    for prompt in range(100, 2100, 40):
        choice = policy.choose(REQUEST, [Candidate(A)])
        policy.learn(choice, Outcome(A, prompt, prompt // 2, 8, 0.0, 50 + 3.0 * (prompt - prompt // 2), 999.0))

    assert policy.choose(REQUEST, [Candidate(A)]).predicted_ttft_ms == pytest.approx(50 + 3 * 1000, rel=0.05)


def test_a_request_that_gave_no_token_teaches_nothing() -> None:
    policy = EstimatedTtft(SETTINGS, Random(0))
    policy.learn(choose(Candidate(A)), Outcome(A, 1000, 0, 0, 0.0, 0.0, 0.0))

    assert policy.choose(REQUEST, [Candidate(A)]).predicted_ttft_ms == pytest.approx(1010)


def test_a_block_begun_is_a_block_needed() -> None:
    # a: 995 tokens to compute and 100 to give are 1095, 110 blocks of ten; 109 are free: 10 more tokens for the last.
    choice = choose(Candidate(A, 5, 5, 5, free_blocks=109, total_blocks=1000))

    assert costs(choice) == {A: 2 * (10 + 995) + 10}


def test_who_joins_a_step_pays_for_those_that_wait_for_its_end() -> None:
    # A step computes 8192 tokens. On a 3 requests wait with 9192: the second step has their last 1000, so that of 3
    # requests a share of 1000/9192 waits there, for the newcomer's 1000 tokens; 9192 + 2 x 1010 + 326.4.
    busy = Candidate(A, waiting_prefill_tokens=9192, waiting_sequences=3)
    # b has one request with 7692 tokens waiting: of the newcomer's, 500 fit into its step.
    half = Candidate(B, waiting_prefill_tokens=7692, waiting_sequences=1)

    choice = choose(busy, half)

    assert costs(choice) == {A: 9192 + 2020 + 326.371, B: 7692 + 2020 + 500}


def test_what_others_would_wait_longer_can_outweigh_a_prefix() -> None:
    # a: 100 waiting + 2 x 910 + 4 requests x 900 tokens; b: 2020.
    choice = choose(Candidate(A, 100, 100, 100, waiting_prefill_tokens=100, waiting_sequences=4), Candidate(B))

    assert costs(choice) == {A: 100 + 1820 + 3600, B: 2020}
    assert choice.reason == "others' wait outweighs a longer prefix"


def test_blocks_that_running_sequences_hold_are_read_in_every_step() -> None:
    # At the prior a block takes a thousandth of a millisecond: 5000 of them take 5.
    choice = choose(Candidate(A, decode_blocks=5000), Candidate(B))

    assert costs(choice) == {A: 2020 + 5, B: 2020}
