"""Ties are broken by work in hand, then by staleness, then by the draw."""

import pytest

from kvplane.policies import Candidate, Choice, ReplicaId, ranked
from kvplane.policies.ranking import complete, lowest

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")


def test_the_lowest_cost_wins_whatever_else_is_said() -> None:
    pick = lowest([Candidate(A, ongoing=9, last_chosen=1), Candidate(B)], {A: 1.0, B: 2.0}, 0.5)

    assert (pick.candidate.replica, pick.tie, pick.propensity) == (A, "", 1.0)


def test_equal_costs_go_to_the_one_with_fewer_ongoing() -> None:
    pick = lowest([Candidate(A, ongoing=2), Candidate(B, ongoing=1)], {A: 1.0, B: 1.0}, 0.0)

    assert (pick.candidate.replica, pick.tie, pick.propensity) == (B, "fewer ongoing", 1.0)


def test_equal_work_goes_to_the_least_recently_chosen_and_first_to_one_never_chosen() -> None:
    stale, fresh, never = Candidate(A, last_chosen=7), Candidate(B, last_chosen=2), Candidate(C)

    assert lowest([fresh, stale], {A: 1.0, B: 1.0}, 0.0).candidate == stale
    assert lowest([fresh, stale, never], {A: 1.0, B: 1.0, C: 1.0}, 0.0).candidate == never
    assert lowest([fresh, stale], {A: 1.0, B: 1.0}, 0.0).tie == "least recently chosen"


@pytest.mark.parametrize("draw, replica", [(0.0, A), (0.34, B), (0.999, C), (1.0, C)])
def test_what_nothing_tells_apart_is_drawn(draw: float, replica: ReplicaId) -> None:
    pick = lowest([Candidate(A), Candidate(B), Candidate(C)], {A: 1.0, B: 1.0, C: 1.0}, draw)

    assert (pick.candidate.replica, pick.tie, pick.propensity) == (replica, "drawn", 1 / 3)


def test_candidates_set_aside_cost_more_than_all_others() -> None:
    assert complete({A: 5.0}, [Candidate(A), Candidate(B)]) == {A: 5.0, B: 6.0}


def test_a_ranking_opens_with_the_chosen_and_goes_on_by_cost_then_id() -> None:
    choice = Choice(B, "drawn", 0.5, {C: 1.0, B: 9.0, A: 1.0})

    assert ranked(choice) == (B, A, C)
