"""What the default policy takes from outcomes: rates, slowness, steps, and which weight serves."""

from dataclasses import replace
from random import Random

import pytest

from kvplane.policies import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from kvplane.policies.adaptive import Adaptive, AdaptiveSettings
from kvplane.policies.rates import Rates, RateSettings

FLEET = A, B, C, D = tuple(ReplicaId(name) for name in "abcd")
IDLE = [Candidate(each) for each in FLEET]
ENGINE = Rates(5.0, 0.1, 1e-6)
GOOD = Outcome(A, 1000, 200, 8, queue_ms=3.0, prefill_ms=90.0, total_ms=400.0, steps=2, step_tokens=1600)


def adaptive(prior: float = 1.0, **asked: object) -> Adaptive:
    """One whose rates begin at so many times those of the engine."""
    rates = RateSettings(base_ms=5 * prior, token_ms=0.1 * prior, token_pair_ms=1e-6 * prior)
    return Adaptive(AdaptiveSettings.model_validate({"rates": rates, "weight": 1.2, **asked}), Random(0))


def served(choice: Choice, prompt_tokens: int, slower: float = 1.0) -> Outcome:
    """How the engine serves a prompt that it holds nothing of."""
    prefill_ms = slower * ENGINE.prefill_ms(float(prompt_tokens), prompt_tokens)
    return Outcome(choice.replica, prompt_tokens, 0, 8, 0.0, prefill_ms, prefill_ms + 100)


def serve(policy: Adaptive, requests: int, slower: dict[ReplicaId, float] | None = None, seed: int = 1) -> None:
    """Requests of many lengths, each told of before the next comes."""
    random = Random(seed)
    for _ in range(requests):
        prompt_tokens = int(random.lognormvariate(7, 1)) + 10
        choice = policy.choose(RoutedRequest(prompt_tokens, 10, 16), IDLE)
        policy.learn(choice, served(choice, prompt_tokens, (slower or {}).get(choice.replica, 1.0)))


def basis(policy: Adaptive) -> dict[str, float]:
    return dict(policy.choose(RoutedRequest(1000, 10, 16), IDLE).basis)


@pytest.mark.parametrize("prior", [3.0, 1 / 3])
@pytest.mark.parametrize("prompt_tokens", [400, 1000, 8000])
def test_rates_three_times_off_are_right_after_a_few_dozen_outcomes(prior: float, prompt_tokens: int) -> None:
    policy = adaptive(prior)
    wrong_ms = policy.choose(RoutedRequest(prompt_tokens, 10, 16), IDLE).predicted_ttft_ms
    serve(policy, 36)
    right_ms = policy.choose(RoutedRequest(prompt_tokens, 10, 16), IDLE).predicted_ttft_ms
    true_ms = ENGINE.prefill_ms(float(prompt_tokens), prompt_tokens)

    assert wrong_ms == pytest.approx(prior * true_ms)
    assert right_ms == pytest.approx(true_ms, rel=0.1)


@pytest.mark.parametrize("prior", [3.0, 1 / 3])
def test_rates_that_were_wrong_for_all_make_none_slower_than_others(prior: float) -> None:
    policy = adaptive(prior)
    serve(policy, 36)

    assert not any(name.startswith("slowness:") for name in basis(policy))


def test_half_of_a_fleet_that_slows_down_is_found_out() -> None:
    policy = adaptive()
    serve(policy, 100)
    random = Random(4)
    for _ in range(600):  # spread evenly, as where all are busy
        choice = replace(policy.choose(RoutedRequest(1000, 10, 16), IDLE), replica=random.choice(FLEET))
        policy.learn(choice, served(choice, 1000, 2.0 if choice.replica in (A, B) else 1.0))
    chosen = {policy.choose(RoutedRequest(1000, 10, 16), IDLE).replica for _ in range(50)}
    costs = policy.choose(RoutedRequest(1000, 10, 16), IDLE).scores

    assert chosen <= {C, D}
    assert costs[A] / costs[C] > 1.3
    assert costs[A] == pytest.approx(costs[B], rel=0.1)


def test_a_replica_is_slow_by_its_factor_at_all_it_computes() -> None:
    policy = adaptive()
    serve(policy, 200, {A: 3.0})
    choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)

    assert choice.scores[A] / choice.scores[B] == pytest.approx(choice.basis["slowness:a"])


def test_a_basis_tells_of_the_slowness_of_none_but_candidates() -> None:
    policy = adaptive()
    for _ in range(50):
        policy.learn(None, Outcome(ReplicaId("gone"), 1000, 0, 8, 0.0, 1000.0, 2000.0))
        policy.learn(None, Outcome(A, 1000, 0, 8, 0.0, 106.0, 200.0))

    assert "slowness:gone" not in basis(policy)


@pytest.mark.parametrize(
    "prompt, cached, steps, step_tokens", [(1000, 500, 1, 7168), (1000, 500, 2, 15000), (20, 0, 4, 20)]
)
def test_who_shared_its_steps_or_took_several_is_not_slow(
    prompt: int, cached: int, steps: int, step_tokens: int
) -> None:
    # The steps computed the tokens of others as well, and took as long as they should.
    policy = adaptive()
    took_ms = 5 * steps + 0.1 * step_tokens + 1e-6 * (prompt - cached) * prompt
    for number in range(200):
        policy.learn(None, served(Choice(FLEET[number % 4], "", 1.0, {}), 2000))
        policy.learn(None, Outcome(A, prompt, cached, 8, 0.0, took_ms, 3e3, steps, step_tokens))

    assert not any(name.startswith("slowness:") for name in basis(policy))
    assert basis(policy)["token_ms"] == pytest.approx(0.1, rel=0.02)


def test_a_prefill_too_short_to_be_measured_makes_none_faster_than_others() -> None:
    policy = adaptive()
    for _ in range(3):
        policy.learn(None, replace(GOOD, prefill_ms=0.0))

    assert "slowness:a" not in basis(policy)


def test_others_in_a_long_prompts_steps_look_at_their_own_prompts() -> None:
    # 100,000 tokens, 1000 of them to compute, beside 7000 of others: 5 + 800 + 1e-6 x 1000 x 100,000 = 905 ms.
    policy = adaptive()
    for _ in range(100):
        policy.learn(None, served(Choice(B, "", 1.0, {}), 2000))
        policy.learn(None, Outcome(A, 100_000, 99_000, 8, 0.0, 905.0, 3e3, 1, 8000))

    assert not any(name.startswith("slowness:") for name in basis(policy))


def test_engines_that_do_not_tell_steps_teach_rates_and_no_step() -> None:
    policy = adaptive(prior=3.0)
    serve(policy, 36)

    assert basis(policy)["step_tokens"] == 8192
    assert basis(policy)["token_ms"] == pytest.approx(0.1, rel=0.2)


def test_what_a_step_computes_is_read_off_prompts_that_took_several() -> None:
    policy, found = adaptive(), []
    for steps, step_tokens in ((1, 16_000), (2, 8000), (3, 3000), (2, 20_000), (4, 0)):
        policy.learn(None, replace(GOOD, steps=steps, step_tokens=step_tokens))
        found.append(basis(policy)["step_tokens"])

    # The first to tell replaces the 8192 assumed; less lets go by a hundredth, more counts as it is.
    assert found == pytest.approx([8192, 4000, 3960, 10_000, 9900])


def test_an_engine_that_tells_steps_and_no_tokens_computed_at_least_the_prompt() -> None:
    policy = adaptive()
    for _ in range(2000):
        policy.learn(None, replace(GOOD, steps=4, step_tokens=0))

    assert basis(policy)["step_tokens"] == pytest.approx(200)  # 800 of 1000 were to be computed


def test_outcomes_of_other_routers_teach_as_own_ones_do_but_for_what_was_tried() -> None:
    own, others = adaptive(), adaptive()
    for policy in (own, others):
        choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)
        policy.learn(choice if policy is own else None, GOOD)

    assert basis(own) == basis(others)


def test_a_weight_that_serves_better_becomes_the_one_that_serves() -> None:
    # At a weight of 2.4 prompts wait for half as long as at 1.2.
    policy = adaptive(tuner={"factors": (1.0, 2.0), "window_decisions": 40, "try_share": 0.5})
    served_at = []
    for _ in range(2000):
        choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)
        weight = choice.basis["weight"]
        policy.learn(choice, Outcome(choice.replica, 1000, 0, 8, 240 / weight, 106.0, 500.0))
        served_at.append(weight)

    assert served_at[0] == 1.2
    assert served_at[-1000:].count(2.4) > 400
    assert set(served_at) == {1.2, 2.4}


@pytest.mark.parametrize("used, weight", [(2, 1.2), (1, 2.4)])
def test_a_fleet_that_shrinks_is_not_crowded_and_one_that_is_not_used_is(used: int, weight: float) -> None:
    # At 2.4, twice as good, there are two replicas, of which both are used or one. Where 2.4 became the favourite 1.2
    # is tried; where it was set aside, for no window, 2.4 is tried again.
    policy = adaptive(tuner={"factors": (1.0, 2.0), "window_decisions": 40, "try_share": 1.0, "aside_windows": 0})
    for number in range(120):
        there, chosen = (4, number % 4) if number < 40 else (2, number % used)
        held = [900 if place == chosen else 0 for place in range(there)]
        fleet = [Candidate(each, has, has, has) for each, has in zip(FLEET, held, strict=False)]
        choice = policy.choose(RoutedRequest(1000, 10, 16), fleet)
        policy.learn(choice, Outcome(choice.replica, 1000, 900, 8, 240 / choice.basis["weight"], 106.0, 500.0))

    assert basis(policy)["weight"] == weight


def test_an_own_outcome_counts_in_the_window_it_was_decided_in_and_anothers_in_none() -> None:
    tuner = {"factors": (1.0, 2.0), "window_decisions": 40, "try_share": 1.0, "aside_windows": 0}
    own, others = adaptive(tuner=tuner), adaptive(tuner=tuner)
    for policy in (own, others):
        for _ in range(120):
            choice = policy.choose(RoutedRequest(1000, 10, 16), IDLE)
            weight = choice.basis["weight"]
            told = Outcome(A, 1000, 0 if weight == 1.2 else 900, 8, 240 / weight, 106.0, 500.0)  # cached or not
            policy.learn(choice if policy is own else None, told)

    assert basis(own)["weight"] == 1.2  # tried against 2.4, by now the favourite
    assert basis(others)["weight"] == 2.4
