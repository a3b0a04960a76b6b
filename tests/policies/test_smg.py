"""cache_aware worked by hand: when loads are uneven, when a match decides, and when neither."""

from random import Random

import pytest

from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest
from kvplane.policies.smg import Smg, SmgSettings

A, B = ReplicaId("a"), ReplicaId("b")


def choose(*candidates: Candidate, **knobs: float) -> Choice:
    return Smg(SmgSettings.model_validate(knobs), Random(0)).choose(RoutedRequest(1000, 100, 10), candidates)


@pytest.mark.parametrize(
    ("busiest", "idlest", "reason"),
    [
        (32, 0, "even loads: best match"),  # 32 apart is not beyond 32
        (33, 0, "uneven loads: shortest queue"),
        (133, 100, "uneven loads: shortest queue"),  # 133 is beyond 1.1 x 100
        (1033, 1000, "even loads: best match"),  # 1033 is within 1.1 x 1000
    ],
)
def test_loads_are_uneven_beyond_both_thresholds(busiest: int, idlest: int, reason: str) -> None:
    choice = choose(Candidate(A, 800, 800, 800, running_sequences=busiest), Candidate(B, running_sequences=idlest))

    assert (choice.reason, choice.replica) == (reason, A if reason.startswith("even") else B)


@pytest.mark.parametrize(
    ("held", "reason"), [(500, "even loads, short match: shortest queue"), (501, "even loads: best match")]
)
def test_a_match_decides_above_half_of_the_prompt(held: int, reason: str) -> None:
    choice = choose(Candidate(A, held, held, held, running_sequences=3), Candidate(B, running_sequences=1))

    assert (choice.reason, choice.replica) == (reason, A if held > 500 else B)


def test_costs_are_requests_and_an_uncached_token_more_than_any_queue() -> None:
    # The busiest has 3, so an uncached token counts as 4: a 3 + 4 x 200, b 1 + 4 x 1000.
    matched = choose(Candidate(A, 800, 800, 800, running_sequences=3), Candidate(B, ongoing=1))
    unmatched = choose(Candidate(A, running_sequences=3), Candidate(B, ongoing=1))

    assert matched.scores == {A: 803, B: 4001}
    assert unmatched.scores == {A: 3, B: 1}


def test_equal_matches_go_to_the_shorter_queue() -> None:
    choice = choose(Candidate(A, 800, 800, 800, running_sequences=2), Candidate(B, 800, 800, 800, running_sequences=1))

    assert choice.replica == B


def test_thresholds_are_settings() -> None:
    holder, other = Candidate(A, 100, 100, 100, running_sequences=3), Candidate(B)

    assert choose(holder, other, match_threshold=0.05).replica == A
    assert choose(holder, other, match_threshold=0.05, balance_requests=2).replica == B
    assert choose(holder, Candidate(B, running_sequences=1), match_threshold=0.05, balance_requests=1).replica == B
    assert (
        choose(
            holder, Candidate(B, running_sequences=1), match_threshold=0.05, balance_requests=1, balance_ratio=3
        ).replica
        == A
    )
