"""Ties are broken by work in hand, then by staleness, then by the draw."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.policies import Candidate, Choice, ReplicaId, ranked
from kvplane.policies.field import Costs, Field
from kvplane.policies.ranking import complete, lowest

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")


def pick(*candidates: Candidate, costs: Sequence[float] = (), draw: float = 0.0) -> tuple[str, str, float]:
    """The lowest of candidates that all cost the same, unless it is said what they cost."""
    field = Field.of(candidates)
    found = lowest(field, np.array(costs or [1.0] * len(field)), draw)
    return field.replicas[found.place], found.tie, found.propensity


def test_the_lowest_cost_wins_whatever_else_is_said() -> None:
    assert pick(Candidate(A, ongoing=9, last_chosen=1), Candidate(B), costs=[1.0, 2.0]) == (A, "", 1.0)


def test_equal_costs_go_to_the_one_with_fewer_ongoing() -> None:
    assert pick(Candidate(A, ongoing=2), Candidate(B, ongoing=1)) == (B, "fewer ongoing", 1.0)


def test_equal_work_goes_to_the_least_recently_chosen_and_first_to_one_never_chosen() -> None:
    stale, fresh, never = Candidate(A, last_chosen=7), Candidate(B, last_chosen=2), Candidate(C)

    assert pick(fresh, stale) == (A, "least recently chosen", 1.0)
    assert pick(fresh, stale, never) == (C, "least recently chosen", 1.0)


@pytest.mark.parametrize("draw, replica", [(0.0, A), (0.34, B), (0.999, C), (1.0, C)])
def test_what_nothing_tells_apart_is_drawn(draw: float, replica: ReplicaId) -> None:
    assert pick(Candidate(A), Candidate(B), Candidate(C), draw=draw) == (replica, "drawn", 1 / 3)


def test_candidates_set_aside_cost_more_than_all_others() -> None:
    believed = Field.of([Candidate(A)])

    assert complete(believed, np.array([5.0]), [Candidate(B), Candidate(A)]) == {A: 5.0, B: 6.0}


def test_a_ranking_opens_with_the_chosen_and_goes_on_by_cost_then_id() -> None:
    choice = Choice(B, "drawn", 0.5, {C: 1.0, B: 9.0, A: 1.0})

    assert ranked(choice) == (B, A, C)


def test_a_ranking_of_columns_is_that_of_the_same_costs_one_by_one() -> None:
    costs = Costs((A, B, C), np.array([1.0, 9.0, 1.0]))

    assert ranked(Choice(B, "drawn", 0.5, costs)) == ranked(Choice(B, "drawn", 0.5, dict(costs))) == (B, A, C)


@pytest.mark.parametrize("most, best", [(1, (B,)), (2, (B, A)), (3, (B, A, C)), (9, (B, A, C))])
def test_the_best_few_are_the_first_of_all(most: int, best: tuple[ReplicaId, ...]) -> None:
    costs = Costs((A, B, C), np.array([1.0, 9.0, 1.0]))

    assert ranked(Choice(B, "drawn", 0.5, costs), most) == best
    assert ranked(Choice(B, "drawn", 0.5, dict(costs)), most) == best


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 40), st.data())
def test_however_many_are_asked_for_they_are_the_beginning_of_the_whole_order(
    costs: list[int], most: int, data: st.DataObject
) -> None:
    replicas = tuple(ReplicaId(f"r-{place:02d}") for place in range(len(costs)))
    choice = Choice(data.draw(st.sampled_from(replicas)), "drawn", 1.0, Costs(replicas, np.array(costs, np.float64)))

    assert ranked(choice, most) == ranked(choice)[:most]
