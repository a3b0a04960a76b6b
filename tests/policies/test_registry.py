"""What every policy promises, on random fields of candidates, and the names they go by."""

import math
from random import Random
from typing import get_args

import pytest
from pydantic import ValidationError

from kvplane.policies import (
    Candidate,
    Outcome,
    PolicyName,
    PolicySettings,
    ReplicaId,
    RoutedRequest,
    UnknownPolicy,
    build_policy,
    cost_unit,
    ranked,
    replay,
    variants,
)

NAMES: tuple[PolicyName, ...] = get_args(PolicyName)


def any_request(random: Random) -> RoutedRequest:
    block_tokens, affinity = random.choice((1, 16, 512)), random.choice((0, random.getrandbits(63)))
    return RoutedRequest(random.randint(1, 100_000), random.randint(0, 4000), block_tokens, affinity)


def any_candidate(random: Random, replica: int) -> Candidate:
    gpu, cpu, disk = sorted(random.choice((0, random.randint(0, 100_000))) for _ in range(3))
    total = random.choice((0, random.randint(1, 10_000)))
    return Candidate(
        ReplicaId(f"r{replica}"),
        gpu,
        cpu,
        disk,
        waiting_prefill_tokens=random.choice((0, random.randint(0, 50_000))),
        running_sequences=random.randint(0, 3),
        decode_blocks=random.randint(0, total),
        free_blocks=random.randint(0, total),
        total_blocks=total,
        ongoing=random.randint(0, 2),
        last_chosen=random.randint(0, 4),
        known=random.random() < 0.8,
        fresh=random.random() < 0.8,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_is_a_candidate_fully_scored_and_replays_the_same(name: PolicyName) -> None:
    random = Random(11)
    policy = build_policy(PolicySettings(name=name), Random(12))
    for _ in range(300):
        request = any_request(random)
        field = [any_candidate(random, replica) for replica in random.sample(range(20), random.randint(1, 9))]
        choice = policy.choose(request, field)
        again = replay(name, choice.basis, request, field)
        policy.learn(
            choice, Outcome(choice.replica, 500, random.randint(0, 499), 5, 1.0, random.expovariate(0.01), 99.0)
        )

        assert again == choice
        assert set(choice.scores) == {each.replica for each in field}
        assert all(math.isfinite(score) for score in choice.scores.values())
        assert 0 < choice.propensity <= 1
        assert (ranked(choice)[0], set(ranked(choice))) == (choice.replica, set(choice.scores))
        assert choice.reason == "only candidate" or len(field) > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -7, 10**300])
def test_a_candidate_of_impossible_numbers_never_raises_nor_wins(name: PolicyName, number: float) -> None:
    random = Random(5)
    policy = build_policy(PolicySettings(name=name), Random(6))
    for feature in ("gpu_tokens", "cpu_tokens", "disk_tokens", "waiting_prefill_tokens", "ongoing", "last_chosen"):
        liar = Candidate(ReplicaId("liar"), **{feature: number})  # type: ignore[arg-type]
        choice = policy.choose(any_request(random), [liar, any_candidate(random, 1), any_candidate(random, 2)])

        assert choice.replica != "liar"
        assert ranked(choice)[-1] == "liar"
        assert all(math.isfinite(score) for score in choice.scores.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt_tokens", [math.nan, math.inf, -3, 0])
def test_a_request_of_impossible_size_is_still_placed(name: PolicyName, prompt_tokens: float) -> None:
    request = RoutedRequest(prompt_tokens, 10, 16)  # type: ignore[arg-type]
    choice = build_policy(PolicySettings(name=name), Random(1)).choose(request, [Candidate(ReplicaId("a"), 64, 64, 64)])

    assert choice.replica == "a"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_replica_not_known_is_said_to_hold_counts_for_nothing(name: PolicyName) -> None:
    request = RoutedRequest(4000, 100, 16)
    empty, full = (Candidate(ReplicaId("a"), held, held, held, known=False) for held in (0, 3900))
    others = [Candidate(ReplicaId("b"), 800, 800, 800), Candidate(ReplicaId("c"), running_sequences=1)]
    choice = build_policy(PolicySettings(name=name), Random(4)).choose(request, [empty, *others])

    assert replay(name, choice.basis, request, [full, *others]) == choice


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_choices(name: PolicyName) -> None:
    field = [any_candidate(Random(seed), seed) for seed in range(6)]
    request = RoutedRequest(4000, 100, 16)
    first, second = (build_policy(PolicySettings(name=name), Random(3)) for _ in range(2))

    assert [first.choose(request, field) for _ in range(20)] == [second.choose(request, field) for _ in range(20)]


@pytest.mark.parametrize("name", NAMES)
def test_reasons_are_few_and_hold_no_numbers(name: PolicyName) -> None:
    random = Random(8)
    policy = build_policy(PolicySettings(name=name), Random(9))
    reasons = {
        policy.choose(any_request(random), [any_candidate(random, replica) for replica in range(4)]).reason
        for _ in range(500)
    }

    assert len(reasons) <= 14
    assert not any(letter.isdigit() for reason in reasons for letter in reason)


def test_the_default_is_adaptive() -> None:
    assert PolicySettings().name == "adaptive"
    assert cost_unit("estimated_ttft") == "ms"


def test_unknown_settings_and_names_are_errors() -> None:
    with pytest.raises(ValidationError):
        PolicySettings.model_validate({"temperature": 1.0})
    with pytest.raises(ValidationError):
        PolicySettings.model_validate({"estimated_ttft": {"weigth": 2}})
    with pytest.raises(UnknownPolicy, match="'magic'"):
        replay("magic", {}, RoutedRequest(1, 1, 1), [Candidate(ReplicaId("a"))])


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_with_knobs_has_at_least_eight_settings_to_try(name: PolicyName) -> None:
    found = variants(name)
    labels, settings = [label for label, _ in found], [each for _, each in found]
    knobs = name in PolicySettings.model_fields

    assert len(set(labels)) == len({each.model_dump_json() for each in settings}) == len(found)
    assert len(found) >= 8 if knobs else labels == [name]
    assert all(each.name == name for each in settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_to_try_decides_and_replays(name: PolicyName) -> None:
    random = Random(21)
    for _, settings in variants(name):
        policy = build_policy(settings, Random(22))
        for _ in range(20):
            request, field = any_request(random), [any_candidate(random, replica) for replica in range(5)]
            choice = policy.choose(request, field)

            assert replay(name, choice.basis, request, field) == choice


def test_a_label_says_what_differs_from_the_default() -> None:
    assert dict(variants("dynamo"))["dynamo prefill_load_scale=4"].dynamo.prefill_load_scale == 4
    assert variants("lmetric") == [("lmetric", PolicySettings(name="lmetric"))]
