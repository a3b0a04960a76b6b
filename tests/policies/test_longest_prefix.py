"""Longest prefix worked by hand: cached tokens first, load only among equals."""

from random import Random

from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest, ranked
from kvplane.policies.longest_prefix import LongestPrefix

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")


def choose(*candidates: Candidate) -> Choice:
    return LongestPrefix(Random(0)).choose(RoutedRequest(1000, 100, 10), candidates)


def test_ten_tokens_more_outweigh_any_queue() -> None:
    # Loads are 31, 0 and 0, so the busiest's fraction is 31 / 32.
    choice = choose(Candidate(A, 310, 310, 310, waiting_prefill_tokens=31), Candidate(B, 300, 300, 300), Candidate(C))

    assert (choice.replica, choice.reason) == (A, "longest prefix")
    assert choice.scores == {A: 690 + 31 / 32, B: 700, C: 1000}


def test_a_prefix_on_disk_is_as_long_as_one_in_gpu() -> None:
    assert choose(Candidate(A, 300, 300, 300), Candidate(B, 0, 0, 310)).replica == B


def test_equal_prefixes_go_to_the_least_loaded() -> None:
    choice = choose(Candidate(A, 300, 300, 300, running_sequences=1), Candidate(B, 300, 300, 300), Candidate(C))

    assert (choice.replica, choice.reason) == (B, "equal prefixes: least loaded")
    assert ranked(choice) == (B, A, C)


def test_a_cold_prompt_goes_to_the_least_loaded() -> None:
    choice = choose(Candidate(A, running_sequences=1), Candidate(B))

    assert (choice.replica, choice.reason) == (B, "cold: least loaded")


def test_equal_prefix_and_load_is_a_tie() -> None:
    choice = choose(Candidate(A, last_chosen=1), Candidate(B, last_chosen=2))

    assert (choice.replica, choice.reason) == (B, "equal prefix and load: tie, least recently chosen")
