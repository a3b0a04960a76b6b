"""A log of decisions: who would have been taken at what chance, by both policies."""

from random import Random

import numpy as np
import pytest

from kvplane.policies import Candidate, Choice, Outcome, PolicyName, PolicySettings, RoutedRequest, build_policy
from kvplane.policies.contract import ReplicaId
from kvplane.tests.bench.logging_policy import LoggingPolicy, Named, Offer

REQUEST = RoutedRequest(1000, 100, 64)


def candidate(replica: str, cached: int = 0, waiting: int = 0) -> Candidate:
    return Candidate(
        ReplicaId(replica), cached, cached, cached, waiting, free_blocks=1000, total_blocks=1000, last_chosen=1
    )


A, B, C = candidate("a", cached=640), candidate("b"), candidate("c", waiting=5000)


def named(name: PolicyName) -> Named:
    return Named(name, build_policy(PolicySettings(name=name), Random(1)))


def logged(policy: Named, target: Named, floor: float, decisions: int = 1, seed: int = 1) -> tuple[Choice, list[Offer]]:
    log: list[Offer] = []
    logging = LoggingPolicy(policy, target, floor, Random(seed), log)
    choice = [logging.choose(REQUEST, [A, B, C]) for _ in range(decisions)][-1]
    return choice, log


def test_an_offer_says_what_every_replica_had_and_who_takes_which() -> None:
    choice, [offer] = logged(named("longest_prefix"), named("least_loaded"), floor=0.0)

    assert offer.prompt_tokens == 1000
    assert offer.cached_tokens.tolist() == [640, 0, 0]
    assert offer.waiting_tokens.tolist() == [0, 0, 5000]
    assert (choice.replica, offer.taken) == ("a", 0)
    assert offer.own.tolist() == [1.0, 0.0, 0.0]
    assert offer.target.tolist() == [0.5, 0.5, 0.0]  # a and b are equally idle


def test_the_replica_that_is_taken_is_the_policys_wherever_it_stands() -> None:
    log: list[Offer] = []
    logging = LoggingPolicy(named("longest_prefix"), named("least_loaded"), 0.0, Random(1), log)

    choice = logging.choose(REQUEST, [B, candidate("d", cached=640), C])

    assert (choice.replica, log[0].taken, log[0].propensity) == ("d", 2, 1.0)


def test_a_tie_is_shared_by_those_in_it() -> None:
    _, [offer] = logged(named("least_loaded"), named("random"), floor=0.0)

    assert offer.own.tolist() == [0.5, 0.5, 0.0]
    assert offer.propensity == 0.5
    assert offer.target.tolist() == pytest.approx([1 / 3] * 3)


def test_the_propensity_counts_exploration_in() -> None:
    _, log = logged(named("longest_prefix"), named("least_loaded"), floor=0.3, decisions=3000)

    taken = np.bincount([offer.taken for offer in log], minlength=3) / len(log)
    assert {(offer.taken, round(offer.propensity, 6)) for offer in log} == {(0, 0.8), (1, 0.1), (2, 0.1)}
    assert taken == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_a_choice_is_told_with_the_propensity_it_was_drawn_with() -> None:
    choice, [offer] = logged(named("estimated_ttft"), named("least_loaded"), floor=1.0)

    assert choice.propensity == offer.propensity == pytest.approx(1 / 3)
    assert choice.replica == "abc"[offer.taken]
    assert choice.basis["weight"] == PolicySettings().estimated_ttft.weight


def test_both_policies_hear_of_outcomes() -> None:
    one, other = named("estimated_ttft"), named("estimated_ttft")
    logging = LoggingPolicy(one, other, 0.0, Random(1), [])
    before = [each.policy.choose(REQUEST, [A, B]).scores[B.replica] for each in (one, other)]

    for _ in range(20):
        logging.learn(None, Outcome(ReplicaId("a"), 1000, 0, 10, 0.0, 5000.0, 6000.0))

    after = [each.policy.choose(REQUEST, [A, B]).scores[B.replica] for each in (one, other)]
    assert before[0] == before[1]
    assert after[0] == after[1] > 2 * before[0]
