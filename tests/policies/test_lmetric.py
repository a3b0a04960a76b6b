"""LMetric's product worked by hand."""

from random import Random

from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest
from kvplane.policies.lmetric import LMetric

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")


def choose(*candidates: Candidate) -> Choice:
    return LMetric(Random(0)).choose(RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=10), candidates)


def test_tokens_to_compute_times_sequences_with_the_request_in_both() -> None:
    # a: (100 waiting + 200) x 2; b: 1000 x 1; c: 100 x 5.
    choice = choose(
        Candidate(A, 800, 800, 800, waiting_prefill_tokens=100, running_sequences=1),
        Candidate(B),
        Candidate(C, 900, 900, 900, running_sequences=4),
    )

    assert (choice.replica, choice.reason) == (C, "lowest product")
    assert choice.scores == {A: 600, B: 1000, C: 500}


def test_own_requests_that_no_page_tells_of_are_in_the_batch() -> None:
    choice = choose(Candidate(A, ongoing=3), Candidate(B, running_sequences=2, ongoing=1))

    assert choice.scores == {A: 4000, B: 3000}


def test_an_equal_product_is_a_tie() -> None:
    # a: 500 x 2; b: 1000 x 1.
    choice = choose(Candidate(A, 500, 500, 500, running_sequences=1, ongoing=1), Candidate(B))

    assert (choice.replica, choice.reason) == (B, "equal product: tie, fewer ongoing")
