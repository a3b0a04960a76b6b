"""A choice stands up to where the second best would have been better, and a little further."""

from random import Random

import pytest

from kvplane.policies import (
    Candidate,
    Choice,
    PolicySettings,
    ReplicaId,
    RoutedRequest,
    build_policy,
    ranked,
    waits_at_most,
)

A, B = ReplicaId("a"), ReplicaId("b")


def chosen(cost_a: float, cost_b: float, **basis: float) -> Choice:
    return Choice(A, "longest prefix", 1.0, {A: cost_a, B: cost_b}, basis=basis)


def test_it_stands_for_half_as_many_tokens_as_it_is_ahead_and_a_few_round_trips_more() -> None:
    # Half of 30 ms and 10 ms more, at 0.5 ms a token: 50 tokens beyond the 100 that it is known to have.
    assert waits_at_most(chosen(20.0, 50.0, token_ms=0.5), (A, B), 100) == 150


def test_of_equals_it_stands_for_the_round_trips_alone() -> None:
    assert waits_at_most(chosen(20.0, 20.0, token_ms=0.5), (A, B), 0) == 20


@pytest.mark.parametrize(
    "choice, ranks",
    [
        (chosen(20.0, 50.0, token_ms=0.5), (A,)),
        (chosen(20.0, 50.0), (A, B)),
        (chosen(60.0, 50.0, token_ms=0.5), (A, B)),
    ],
    ids=["nobody else", "costs that are no times", "a choice that explores"],
)
def test_what_cannot_be_told_stands_whatever_there_is(choice: Choice, ranks: tuple[ReplicaId, ...]) -> None:
    assert waits_at_most(choice, ranks, 100) is None


def test_what_is_beyond_its_whole_lead_the_default_policy_does_not_choose() -> None:
    request = RoutedRequest(1000, 10, 10)
    settings = {"rates": {"base_ms": 1.0, "token_ms": 1.0}, "backlog_weight": 0.0}

    def choose(waiting: int) -> Choice:
        policy = build_policy(PolicySettings.model_validate({"name": "adaptive", "adaptive": settings}), Random(1))
        return policy.choose(request, [Candidate(A, 400, 400, 400, waiting), Candidate(B)])

    first = choose(100)
    most = waits_at_most(first, ranked(first), 100)
    lead = int(first.scores[B] - first.scores[A])

    assert first.replica == A
    assert most is not None
    assert 100 + lead // 2 < most < 100 + lead
    assert (choose(most).replica, choose(101 + lead).replica) == (A, B)
