"""What is believed of candidates before any policy looks at them."""

import math
from random import Random

import pytest

from kvplane.policies import Candidate, PolicySettings, ReplicaId, RoutedRequest, build_policy
from kvplane.policies.features import cached_tokens, credible, credible_request, load_tokens
from kvplane.policies.field import Field


def test_candidates_come_out_in_the_order_of_their_ids() -> None:
    field = credible([Candidate(ReplicaId("b")), Candidate(ReplicaId("a"))])

    assert [each.replica for each in field] == ["a", "b"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1, 1 << 48])
@pytest.mark.parametrize("feature", ["gpu_tokens", "disk_tokens", "free_blocks", "last_chosen"])
def test_a_candidate_with_an_impossible_number_is_set_aside(feature: str, number: float) -> None:
    # The contract says int; a hostile or broken page may say anything.
    liar = Candidate(ReplicaId("liar"), **{feature: number})  # type: ignore[arg-type]

    assert [each.replica for each in credible([liar, Candidate(ReplicaId("honest"))])] == ["honest"]


def test_where_every_number_is_impossible_all_stay_without_numbers() -> None:
    field = credible([Candidate(ReplicaId("a"), gpu_tokens=-1), Candidate(ReplicaId("b"), ongoing=-1)])

    assert field == (Candidate(ReplicaId("a"), known=False), Candidate(ReplicaId("b"), known=False))


def test_an_unknown_candidate_stands_in_with_average_load_and_no_prefix() -> None:
    busy = Candidate(ReplicaId("a"), waiting_prefill_tokens=300, running_sequences=6)
    idle = Candidate(ReplicaId("b"), waiting_prefill_tokens=100, running_sequences=2)
    silent = Candidate(ReplicaId("c"), gpu_tokens=900, waiting_prefill_tokens=0, ongoing=3, known=False)

    guess = credible([busy, idle, silent])[2]

    assert (guess.waiting_prefill_tokens, guess.running_sequences, guess.gpu_tokens, guess.ongoing) == (200, 4, 0, 3)


def test_the_last_token_of_a_prompt_is_never_cached() -> None:
    field = Field.of([Candidate(ReplicaId("a"), disk_tokens=64)])

    assert cached_tokens(RoutedRequest(64, 8, 16), field) == 63


def test_a_sequence_counts_as_sixteen_waiting_tokens_and_only_once() -> None:
    field = Field.of([Candidate(ReplicaId("a"), waiting_prefill_tokens=100, running_sequences=2, ongoing=3)])

    assert load_tokens(field) == 148


def test_a_request_of_impossible_size_is_read_as_the_smallest() -> None:
    assert credible_request(RoutedRequest(-5, -1, 0)) == RoutedRequest(1, 0, 1)


def test_no_candidates_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        credible([])


def test_a_silent_replica_keeps_what_it_holds_and_has_the_others_load() -> None:
    silent = Candidate(ReplicaId("a"), gpu_tokens=960, waiting_prefill_tokens=7, ongoing=3, fresh=False)
    heard = Candidate(ReplicaId("b"), waiting_prefill_tokens=100, running_sequences=1)

    believed, _ = credible([silent, heard])

    assert (believed.gpu_tokens, believed.waiting_prefill_tokens, believed.running_sequences) == (960, 100, 3)


def test_when_all_are_silent_the_longest_prefix_still_wins() -> None:
    silent = [Candidate(ReplicaId(name), gpu_tokens=960 * (name == "b"), fresh=False) for name in "abc"]
    policy = build_policy(PolicySettings(), Random(0))

    assert {policy.choose(RoutedRequest(1000, 16, 32), silent).replica for _ in range(50)} == {"b"}
