"""The default policy's sums, by hand: 10 ms base, 1 ms a token, no pair term, weight 2 while the fleet is idle."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from kvplane.policies import Candidate, Choice, Outcome, ReplicaId, RoutedRequest, replay
from kvplane.policies.adaptive import Adaptive, AdaptiveSettings
from kvplane.policies.rates import RateSettings

A, B, C, D = (ReplicaId(name) for name in "abcd")
REQUEST = RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=10)
NOW_S = 1_700_000_000.0


def adaptive(seed: int = 0, **settings: object) -> Adaptive:
    rates = RateSettings(base_ms=10, token_ms=1, token_pair_ms=1e-12)
    weights = {"weight": 2.0, "congested_weight": 2.0, "backlog_weight": 0.5}
    asked = {**weights, "cpu_us_per_token": 100, "disk_us_per_token": 500, "rates": rates, **settings}
    return Adaptive(AdaptiveSettings.model_validate(asked), Random(seed))


def choose(*candidates: Candidate) -> Choice:
    return adaptive().choose(REQUEST, candidates)


def costs(choice: Choice) -> dict[ReplicaId, float]:
    return {replica: round(cost, 3) for replica, cost in choice.scores.items()}


def weights(policy: Adaptive, requests: Sequence[RoutedRequest], *candidates: Candidate) -> list[float]:
    return [policy.choose(request, candidates).basis["weight"] for request in requests]


def at(at_s: float, prompt_tokens: int = 590) -> RoutedRequest:
    return RoutedRequest(prompt_tokens, 10, 10, at_s=at_s)


def test_a_cost_is_a_wait_a_weighed_prefill_a_fetch_what_others_wait_and_the_room_that_is_made() -> None:
    # a waits 100 and 2 x 16; computes 200 for 2 x 210; fetches 100 from cpu for 10 and 50 from disk for 25; keeps 3
    # others waiting for 200 each; and of 30 blocks needed 10 are free: 200. b has nothing to do and computes all.
    busy = Candidate(A, 650, 750, 800, 100, 2, free_blocks=10, total_blocks=500, waiting_sequences=3)
    choice = choose(busy, Candidate(B))

    assert costs(choice) == {A: 132 + 420 + 35 + 600 + 200, B: 2020}
    assert choice.predicted_ttft_ms == pytest.approx(132 + 210 + 35)
    assert (choice.replica, choice.reason, choice.propensity) == (A, "longest prefix", 1.0)


def test_in_a_fleet_with_nothing_to_do_prefill_weighs_what_was_set() -> None:
    assert weights(adaptive(weight=1.2), [at(NOW_S)], Candidate(A), Candidate(B)) == [1.2]


def test_prefill_weighs_more_by_the_share_of_the_time_that_is_prefill() -> None:
    # 600 ms of the three seconds first seen of two replicas: 0.1. 1200: 0.2.
    found = weights(adaptive(), [at(NOW_S)] * 3, Candidate(A), Candidate(B))

    assert found == pytest.approx([2.0, 2 + 2 * 0.1 / 0.9, 2 + 2 * 0.2 / 0.8])


def test_what_is_cached_does_not_fill_the_fleet() -> None:
    # 10 ms and 90 tokens, twice: 200 of 6000 ms.
    found = weights(adaptive(), [at(NOW_S)] * 3, Candidate(A, 500, 500, 500), Candidate(B))

    assert found[2] == pytest.approx(2 + 2 * (200 / 6000) / (5800 / 6000))


def test_prefill_weighs_more_with_every_prompt_in_line_beyond_one() -> None:
    # 50 prompts of 590 tokens in line at the least busy; a fiftieth of the way each time: 1, 1.98, 2.94 prompts.
    line = Candidate(A, waiting_prefill_tokens=59000), Candidate(B, waiting_prefill_tokens=29500)
    found = weights(adaptive(), [at(0.0)] * 4, *line)

    assert found == pytest.approx([2, 2, 2 + 0.5 * 0.98, 2 + 0.5 * 1.9404])


def test_prefill_never_weighs_more_than_eight() -> None:
    assert weights(adaptive(), [at(NOW_S, 100_000)] * 2, Candidate(A)) == [2.0, 8.0]


def test_outcomes_of_other_routers_fill_the_fleet_as_own_choices_do() -> None:
    policy = adaptive()
    weights(policy, [at(NOW_S)], Candidate(A), Candidate(B))
    policy.learn(None, Outcome(A, 590, 0, 8, 0.0, 600.0, 700.0))

    assert weights(policy, [at(NOW_S)], Candidate(A), Candidate(B)) == pytest.approx([2 + 2 * 0.2 / 0.8])


def test_own_outcomes_do_not_fill_it_twice() -> None:
    policy = adaptive()
    choice = policy.choose(at(NOW_S), [Candidate(A), Candidate(B)])
    policy.learn(choice, Outcome(A, 590, 0, 8, 0.0, 600.0, 700.0))

    assert weights(policy, [at(NOW_S)], Candidate(A), Candidate(B)) == pytest.approx([2 + 2 * 0.1 / 0.9])


@pytest.mark.parametrize("later_s", [-3e8, -60.0, 3e8])
def test_a_fleet_is_idle_again_after_a_clock_that_jumped(later_s: float) -> None:
    policy = adaptive()
    jumped = NOW_S + later_s
    weights(policy, [at(NOW_S)] * 50 + [at(jumped)] * 50, Candidate(A), Candidate(B))

    full, idle = weights(policy, [at(jumped), at(jumped + 600)], Candidate(A), Candidate(B))

    assert full > 3.9
    assert idle == pytest.approx(2.0, abs=1e-3)


def test_times_not_known_leave_the_weight_at_what_was_set() -> None:
    assert weights(adaptive(), [at(0.0)] * 150, Candidate(A), Candidate(B)) == [2.0] * 150


@pytest.mark.parametrize(
    "reason, candidates",
    [
        ("only candidate", [Candidate(A, 500, 500, 500)]),
        ("cold: tie, drawn", [Candidate(A), Candidate(B)]),
        ("cold: least busy", [Candidate(A, running_sequences=1), Candidate(B)]),
        ("cold: to a replica not chosen before", [Candidate(A, last_chosen=3), Candidate(B)]),
        ("cold: tie, least recently chosen", [Candidate(A, last_chosen=3), Candidate(B, last_chosen=4)]),
        ("longest prefix", [Candidate(A, 500, 500, 500), Candidate(B, last_chosen=3)]),
        (
            "another copy: those that hold the prefix are busy",
            [Candidate(A, 500, 500, 500, waiting_prefill_tokens=1100, waiting_sequences=1), Candidate(B)],
        ),
        ("shorter wait outweighs a longer prefix", [Candidate(A, 500, 500, 500, 1100), Candidate(B)]),
        (
            "others' wait outweighs a longer prefix",
            [
                Candidate(A, 500, 500, 500, waiting_prefill_tokens=300, waiting_sequences=2),
                Candidate(B, 400, 400, 400),
            ],
        ),
    ],
)
def test_the_reason_says_what_was_done_on_purpose(reason: str, candidates: list[Candidate]) -> None:
    assert choose(*candidates).reason == reason


def test_a_copy_beside_busy_holders_is_one_only_if_more_than_half_of_them_are_busy() -> None:
    busy, held = Candidate(A, 500, 500, 500, 5000, waiting_sequences=3), Candidate(B, 500, 500, 500, 5000)

    assert choose(busy, held, Candidate(C)).reason == "shorter wait outweighs a longer prefix"
    assert choose(held, Candidate(C), Candidate(D, 0, 0, 0, 9000, waiting_sequences=3)).reason == (
        "shorter wait outweighs a longer prefix"
    )
    assert choose(busy, Candidate(C)).reason == "another copy: those that hold the prefix are busy"


def test_exploring_gives_each_replica_its_even_share_and_ties_share_the_rest() -> None:
    # a and b are alike, c and d busier: 0.3 / 4 for each, and for a and b half of 0.7 besides.
    fleet = [Candidate(A), Candidate(B), Candidate(C, running_sequences=1), Candidate(D, running_sequences=2)]
    policy = adaptive(explore=0.3, seed=1)
    chosen = [policy.choose(REQUEST, fleet) for _ in range(4000)]
    propensity = {choice.replica: choice.propensity for choice in chosen}
    times = Counter(choice.replica for choice in chosen)

    assert propensity == pytest.approx({A: 0.425, B: 0.425, C: 0.075, D: 0.075})
    assert all(choice.propensity == propensity[choice.replica] for choice in chosen)
    assert all(abs(times[each] / 4000 - propensity[each]) < 0.025 for each in times)
    assert {choice.reason for choice in chosen} == {"exploring", "cold: tie, drawn"}
    assert abs(sum(choice.reason == "exploring" for choice in chosen) / 4000 - 0.3) < 0.03


@pytest.mark.parametrize(
    "second, propensity",
    [
        (Candidate(B, ongoing=1), {A: 0.9, B: 0.1}),  # its tie was broken, so that it is drawn only in exploring
        (Candidate(B, last_chosen=1), {A: 0.9, B: 0.1}),
        (Candidate(B), {A: 0.5, B: 0.5}),
    ],
)
def test_what_breaks_a_tie_decides_how_likely_each_was(second: Candidate, propensity: dict[ReplicaId, float]) -> None:
    policy = adaptive(explore=0.2)
    found = {}
    for _ in range(100):
        choice = policy.choose(REQUEST, [Candidate(A), second])
        found[choice.replica] = choice.propensity

    assert found == pytest.approx(propensity)


def test_one_who_always_explores_draws_evenly() -> None:
    policy = adaptive(explore=1.0)
    chosen = [policy.choose(REQUEST, [Candidate(A, 500, 500, 500), Candidate(B), Candidate(C)]) for _ in range(300)]

    assert all(choice.propensity == pytest.approx(1 / 3) for choice in chosen)
    assert all(70 < times < 130 for times in Counter(choice.replica for choice in chosen).values())


def test_without_exploring_no_choice_is_left_to_chance_but_a_tie() -> None:
    assert {adaptive(seed).choose(REQUEST, [Candidate(A), Candidate(B, 10, 10, 10)]).replica for seed in range(50)} == {
        B
    }


def test_what_is_learned_is_in_the_basis_and_replays_the_same() -> None:
    policy = adaptive(explore=0.2)
    random = Random(3)
    for _ in range(300):
        fleet = [Candidate(each, waiting_prefill_tokens=random.randint(0, 900)) for each in (A, B, C)]
        fleet.append(Candidate(D, ongoing=random.choice((0, -1))))  # a number that cannot be true sets it aside
        choice = policy.choose(at(NOW_S + random.random(), 1000), fleet)
        policy.learn(choice, Outcome(choice.replica, 1000, 0, 8, 1.0, 4040.0 if choice.replica == C else 1010.0, 5e3))

        assert replay("adaptive", choice.basis, at(NOW_S, 1000), fleet) == choice

    assert choice.basis["slowness:c"] > 1.5
    assert choice.basis["weight"] > 2.0


def test_the_chosen_one_of_a_field_with_some_set_aside_is_never_one_of_them() -> None:
    choice = choose(Candidate(A, waiting_prefill_tokens=-1), Candidate(B, 1 << 60), Candidate(C, running_sequences=9))

    assert (choice.replica, choice.reason) == (C, "cold: least busy")
    assert choice.scores[A] == choice.scores[B] == choice.scores[C] + 1


def test_the_same_seed_gives_the_same_choices_and_another_one_other_draws() -> None:
    fleet = [Candidate(A), Candidate(B), Candidate(C)]
    first, again, other = ([policy.choose(REQUEST, fleet) for _ in range(30)] for policy in map(adaptive, (5, 5, 6)))

    assert first == again
    assert first != other


def test_a_weight_beyond_the_highest_is_an_error_not_cut_off() -> None:
    with pytest.raises(ValueError, match="less than or equal to 8"):
        AdaptiveSettings(weight=9)
