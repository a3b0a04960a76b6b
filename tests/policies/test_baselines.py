"""The policies blind to caches: random, round robin, power of two, least loaded, least recently used."""

from collections import Counter
from random import Random

from kvplane.policies import (
    Candidate,
    Choice,
    Policy,
    PolicyName,
    PolicySettings,
    ReplicaId,
    RoutedRequest,
    build_policy,
    replay,
)
from kvplane.policies.contract import Outcome

REQUEST = RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=16)


def built(name: PolicyName, seed: int = 0) -> Policy:
    return build_policy(PolicySettings(name=name), Random(seed))


def candidates(ids: str) -> list[Candidate]:
    return [Candidate(ReplicaId(name)) for name in ids]


def test_random_takes_each_as_often_and_knows_its_chance() -> None:
    policy = built("random", seed=3)
    choices = [policy.choose(REQUEST, candidates("dacb")) for _ in range(4000)]
    shares = Counter(choice.replica for choice in choices)

    assert {(choice.reason, choice.propensity) for choice in choices} == {("drawn", 0.25)}
    assert all(abs(shares[ReplicaId(name)] - 1000) < 120 for name in "abcd")  # four standard deviations of 27


def test_random_scores_the_distance_from_the_one_drawn() -> None:
    basis = {"draw": 0.6}  # the third of four
    choice = replay("random", basis, REQUEST, candidates("dacb"))

    assert (choice.replica, choice.scores) == ("c", {"c": 0, "d": 1, "a": 2, "b": 3})


def test_round_robin_takes_each_in_turn_and_scores_the_distance() -> None:
    policy = built("round_robin")
    first = policy.choose(REQUEST, candidates("cab"))

    assert (first.replica, first.scores, first.reason) == ("a", {"c": 2, "a": 0, "b": 1}, "next in turn")
    assert [policy.choose(REQUEST, candidates("cab")).replica for _ in range(4)] == ["b", "c", "a", "b"]


def test_round_robin_goes_on_from_a_replica_that_left_and_lets_one_that_joined_in() -> None:
    policy = built("round_robin")
    turns = [policy.choose(REQUEST, candidates(ids)).replica for ids in ("abd", "abd", "acd", "acd", "abcd", "abcd")]

    assert turns == ["a", "b", "c", "d", "a", "b"]


def test_power_of_two_takes_the_less_loaded_of_two_and_knows_its_chance() -> None:
    loads = {"a": 0, "b": 100, "c": 200, "d": 300}
    field = [Candidate(ReplicaId(name), waiting_prefill_tokens=load) for name, load in loads.items()]
    policy = built("power_of_two", seed=7)
    choices = [policy.choose(REQUEST, field) for _ in range(6000)]

    shares = Counter(choice.replica for choice in choices)
    chances = {choice.replica: choice.propensity for choice in choices}

    assert chances == {"a": 3 / 6, "b": 2 / 6, "c": 1 / 6}
    assert "d" not in shares
    assert all(abs(shares[replica] / 6000 - chance) < 0.03 for replica, chance in chances.items())


def test_power_of_two_wins_half_of_its_ties() -> None:
    choice = built("power_of_two").choose(REQUEST, candidates("abc"))

    assert (choice.propensity, choice.reason) == (1 / 3, "equal load of two drawn")


def test_least_loaded_counts_waiting_tokens_and_running_sequences() -> None:
    field = [
        Candidate(ReplicaId("a"), gpu_tokens=999, waiting_prefill_tokens=64, running_sequences=1),
        Candidate(ReplicaId("b"), waiting_prefill_tokens=32, running_sequences=2),
    ]
    choice = built("least_loaded").choose(REQUEST, field)

    assert (choice.replica, choice.scores, choice.reason) == ("b", {"a": 80.0, "b": 64.0}, "least loaded")


def test_least_recently_used_takes_the_stalest_and_before_it_one_never_chosen() -> None:
    field = [Candidate(ReplicaId("a"), last_chosen=3), Candidate(ReplicaId("b"), last_chosen=9)]
    choice = built("least_recently_used").choose(REQUEST, field)
    with_new = built("least_recently_used").choose(REQUEST, [*field, Candidate(ReplicaId("c"))])

    assert (choice.replica, choice.scores, choice.reason) == ("b", {"a": 6, "b": 0}, "least recently chosen")
    assert (with_new.replica, with_new.scores) == ("c", {"a": 7, "b": 1, "c": 0})


def test_what_is_learned_changes_no_baseline() -> None:
    outcome = Outcome(ReplicaId("a"), 1000, 0, 10, 1.0, 5000.0, 6000.0)
    for name in ("random", "least_loaded", "least_recently_used", "power_of_two"):
        taught, fresh = built(name), built(name)
        taught.learn(Choice(ReplicaId("a"), "", 1.0, {}), outcome)

        assert taught.choose(REQUEST, candidates("abc")) == fresh.choose(REQUEST, candidates("abc"))
