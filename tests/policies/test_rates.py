"""The fit finds the rates of an engine, whatever it was told at first, and keeps them through outliers."""

import math
from random import Random

import pytest

from kvplane.policies.rates import RateFit, Rates, RateSettings

ENGINES = [Rates(30.0, 2.0, 3e-4), Rates(1.0, 0.01, 1e-7), Rates(200.0, 5.0, 1e-3), Rates(3.0, 0.2, 0.0)]


def prompts(seed: int, count: int) -> list[tuple[int, int]]:
    random = Random(seed)
    totals = [int(random.lognormvariate(7, 1)) + 10 for _ in range(count)]
    return [(max(1, int(total * random.choice((1, 0.1, 0.02)))), total) for total in totals]


def mean_error(fit: RateFit, engine: Rates) -> float:
    errors = [abs(fit.rates.prefill_ms(*sizes) / engine.prefill_ms(*sizes) - 1) for sizes in prompts(99, 100)]
    return sum(errors) / len(errors)


def test_prefill_is_a_base_a_part_per_token_and_a_part_per_pair() -> None:
    assert Rates(5.0, 0.1, 1e-3).prefill_ms(uncached_tokens=100, total_tokens=400) == pytest.approx(5 + 10 + 40)


def test_before_any_outcome_the_prior_holds() -> None:
    assert RateFit(RateSettings(base_ms=7, token_ms=0.3, token_pair_ms=1e-5)).rates == Rates(7, 0.3, 1e-5, 1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_fit_finds_rates_far_from_the_prior_through_noise_and_outliers(engine: Rates) -> None:
    random, fit = Random(1), RateFit(RateSettings())
    for sizes in prompts(3, 400):
        outlier = 30.0 if random.random() < 0.03 else 1.0
        fit.observe(*sizes, engine.prefill_ms(*sizes) * random.lognormvariate(0, 0.15) * outlier)

    assert mean_error(fit, engine) < 0.15


def test_a_wrong_prior_is_left_within_a_few_outcomes() -> None:
    engine, fit = ENGINES[0], RateFit(RateSettings())
    at_first = mean_error(fit, engine)
    for sizes in prompts(4, 20):
        fit.observe(*sizes, engine.prefill_ms(*sizes))

    assert at_first > 0.8
    assert mean_error(fit, engine) < 0.2


def test_prompts_of_one_length_teach_a_cost_per_token() -> None:
    fit = RateFit(RateSettings())
    for _ in range(30):
        fit.observe(1000, 1000, 2030.0)

    assert fit.rates.token_ms == pytest.approx(2.0, rel=0.05)


def test_an_engine_that_changes_is_followed() -> None:
    fit = RateFit(RateSettings())
    for engine in (ENGINES[0], ENGINES[3]):
        for sizes in prompts(5, 800):
            fit.observe(*sizes, engine.prefill_ms(*sizes))

    assert mean_error(fit, ENGINES[3]) < 0.15


def test_no_rate_goes_below_zero_even_if_longer_prompts_are_faster() -> None:
    fit = RateFit(RateSettings())
    for tokens in range(100, 4000, 50):
        fit.observe(tokens, tokens, 1000.0 / tokens)

    assert all(rate >= 0 for rate in (fit.rates.base_ms, fit.rates.token_ms, fit.rates.token_pair_ms))


def test_rates_that_fell_to_nothing_rise_again() -> None:
    fit = RateFit(RateSettings())
    for prefill_ms, outcomes in ((0.0, 5000), (500.0, 1000)):
        for _ in range(outcomes):
            fit.observe(1000, 1000, prefill_ms)

    assert fit.rates.prefill_ms(1000, 1000) == pytest.approx(500, rel=0.05)


@pytest.mark.parametrize("sizes", [(0, 10), (11, 10), (-1, 5), (math.nan, 10), (5, math.inf)])
@pytest.mark.parametrize("prefill_ms", [10.0, math.nan, math.inf, -1.0])
def test_impossible_outcomes_teach_nothing(sizes: tuple[float, float], prefill_ms: float) -> None:
    fit = RateFit(RateSettings())
    fit.observe(*sizes, prefill_ms)
    fit.observe(5, 10, min(prefill_ms, -1.0))

    assert fit.rates == RateFit(RateSettings()).rates


def test_a_prompt_that_shared_its_steps_teaches_what_it_cost_alone() -> None:
    engine, fit = Rates(20.0, 0.5, 0.0), RateFit(RateSettings())
    random = Random(2)
    for _ in range(300):
        uncached, beside, steps = random.randint(10, 4000), random.choice((0, 0, 6000)), random.choice((1, 2))
        took_ms = steps * engine.base_ms + engine.token_ms * (uncached + beside)
        fit.observe(uncached, uncached, took_ms, steps, uncached + beside)

    assert fit.rates.prefill_ms(100, 100) == pytest.approx(70.0, rel=0.05)
    assert fit.rates.prefill_ms(4000, 4000) == pytest.approx(2020.0, rel=0.05)


def test_what_running_sequences_hold_slows_every_step() -> None:
    engine, fit, random = Rates(20.0, 0.5, 0.0, 0.01), RateFit(RateSettings()), Random(3)
    for _ in range(400):
        uncached, steps, blocks = random.randint(10, 4000), random.choice((1, 2)), random.choice((0, 500, 4000))
        took_ms = steps * (engine.base_ms + engine.block_ms * blocks) + engine.token_ms * uncached
        fit.observe(uncached, uncached, took_ms, steps, uncached, blocks)

    assert fit.rates.block_ms == pytest.approx(0.01, rel=0.1)
    assert fit.rates.base_ms == pytest.approx(20.0, rel=0.15)


def test_what_no_outcome_ever_bears_on_stays_as_the_prior_has_it() -> None:
    fit = RateFit(RateSettings(block_ms=0.25))
    for number in range(8_000):  # the prior's weight is below the smallest float by then
        fit.observe(100 + number % 50, 200, 20.0)

    assert fit.rates.block_ms == pytest.approx(0.25)
    assert fit.rates.prefill_ms(125.0, 200) == pytest.approx(20.0, rel=0.05)
