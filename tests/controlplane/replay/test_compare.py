"""Verdicts on pairs of runs: right about the truth about as often as they claim, and silent about nothing."""

import math
import time

import numpy as np
import pytest

from kvplane.controlplane.replay.compare import Comparison, Incomparable, Metric, compare
from kvplane.controlplane.replay.run import Floats, Run
from kvplane.tests.controlplane.replay.made_run import made_run

RANDOM = np.random.default_rng(7)
TIMES = np.exp(RANDOM.normal(5, 1, 400))
PROMPTS = RANDOM.integers(100, 9000, 400).tolist()
METRICS: tuple[Metric, ...] = (
    "hit_rate",
    "ttft_mean_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "e2e_mean_ms",
    "e2e_p99_ms",
)


def remembering(random: np.random.Generator, size: int, memory: float) -> Floats:
    """A first-order process of variance 1."""
    values = random.normal(size=size)
    for at in range(1, size):
        values[at] = memory * values[at - 1] + math.sqrt(1 - memory**2) * values[at]
    return values


def pair(seed: int, size: int, memory: float, metric: Metric) -> Comparison:
    """Times of which ours are 0.95 of theirs in expectation, both under the same slow load and each with its own."""
    random = np.random.default_rng(seed)
    shared = remembering(random, size, memory)
    ours, theirs = (np.exp(shared + 0.5 * remembering(random, size, memory)) for _ in range(2))
    return compare([made_run(0.95 * ours)], [made_run(theirs, policy="theirs")], metric, resamples=400)


@pytest.mark.parametrize("metric", METRICS)
def test_identical_runs_never_differ(metric: Metric) -> None:
    runs = [made_run(TIMES, prompt=PROMPTS, cached=[50] * 400, seed=seed) for seed in (1, 2)]

    found = compare(runs, runs, metric)

    none = 0.0 if metric == "hit_rate" else 1.0
    assert (found.ratio, found.low, found.high, found.verdict) == (none, none, none, "no difference shown")


def test_a_constant_ratio_is_found_whatever_is_drawn() -> None:
    ours, theirs = made_run(0.5 * TIMES), made_run(TIMES, policy="theirs")

    found = compare([ours], [theirs], "ttft_mean_ms")

    assert (found.ours, found.theirs, found.metric, found.verdict) == ("ours", "theirs", "ttft_mean_ms", "better")
    assert (found.ratio, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert compare([theirs], [ours], "ttft_p99_ms").verdict == "worse"


def test_the_hit_rate_is_compared_in_points_and_more_is_better() -> None:
    ours, theirs = made_run(TIMES, cached=[30] * 400), made_run(TIMES, cached=[20] * 400, policy="theirs")

    assert compare([ours], [theirs], "hit_rate").ratio == pytest.approx(10.0)
    assert compare([ours], [theirs], "hit_rate").verdict == "better"
    assert compare([theirs], [ours], "hit_rate").verdict == "worse"


def test_a_quantile_is_that_of_each_side() -> None:
    found = compare([made_run(np.arange(1.0, 101.0))], [made_run(np.arange(100.0, 0.0, -1.0) * 2)], "ttft_p90_ms")

    assert found.ratio == 0.5


def test_a_request_that_failed_in_either_run_counts_in_neither() -> None:
    slow = [100.0] * 19 + [1e9]
    lost = [*[100.0] * 19, math.nan]

    assert compare([made_run(slow)], [made_run(lost)], "ttft_mean_ms").ratio == 1.0
    # Found whole, but by a request that was never answered.
    found = [*[50] * 19, 100]
    assert compare([made_run(lost, cached=found)], [made_run(slow, cached=[50] * 20)], "hit_rate").ratio == 0.0


@pytest.mark.parametrize("memory, metric", [(0.0, "ttft_mean_ms"), (0.9, "ttft_mean_ms"), (0.9, "ttft_p90_ms")])
def test_intervals_hold_the_truth_about_as_often_as_they_say(memory: float, metric: Metric) -> None:
    found = [pair(seed, 1500, memory, metric) for seed in range(100)]

    held = sum(each.low <= 0.95 <= each.high for each in found)

    assert 86 <= held <= 99


def test_neighbours_that_depend_on_each_other_widen_the_interval() -> None:
    # A correlation time of 19 requests leaves as much as 1/19 of them would say: about 4 times as wide.
    lonely, alike = (pair(1, 4000, memory, "ttft_mean_ms") for memory in (0.0, 0.9))

    assert 2.5 < (alike.high - alike.low) / (lonely.high - lonely.low) < 6


def test_a_second_run_of_the_same_requests_does_not_count_as_new_ones() -> None:
    ours, theirs = made_run(TIMES), made_run(TIMES[::-1], policy="theirs")
    once = compare([ours], [theirs], "ttft_mean_ms")

    thrice = compare([ours] * 3, [theirs] * 3, "ttft_mean_ms")

    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize("metric", ["ttft_mean_ms", "ttft_p50_ms"])
def test_luck_of_a_whole_run_widens_the_interval(metric: Metric) -> None:
    # A run is 0.6 or 1.3 of theirs throughout: within a run nothing varies, and two runs say little.
    ours = [made_run(TIMES * luck, seed=seed) for seed, luck in enumerate((0.6, 1.3))]
    theirs = [made_run(TIMES, seed=seed) for seed in (0, 1)]

    found = compare(ours, theirs, metric)

    assert found.ratio == pytest.approx(0.95, abs=0.15)  # a median of both runs is not the mean of their medians
    assert found.low < 0.65
    assert found.high > 1.25


def test_shifted_starts_are_compared_where_they_overlap() -> None:
    def shifted(start: int, seed: int, factor: float) -> Run:
        return made_run(factor * TIMES[start:], prompt=PROMPTS[start:], seed=seed)

    found = compare(
        [shifted(0, 1, 0.9), shifted(100, 2, 0.9)], [shifted(0, 1, 1.0), shifted(100, 2, 1.0)], "ttft_mean_ms"
    )

    assert found.ratio == pytest.approx(0.9)
    assert found.verdict == "better"


def test_the_same_seed_draws_the_same() -> None:
    ours, theirs = made_run(TIMES), made_run(TIMES[::-1])

    assert compare([ours], [theirs], "ttft_p50_ms", seed=3) == compare([ours], [theirs], "ttft_p50_ms", seed=3)
    assert compare([ours], [theirs], "ttft_p50_ms", seed=3) != compare([ours], [theirs], "ttft_p50_ms", seed=4)


@pytest.mark.parametrize(
    "ours, theirs, why",
    [
        ([], [], "at least one; got 0 and 0"),
        ([made_run(TIMES)], [made_run(TIMES)] * 2, "got 1 and 2"),
        ([made_run(TIMES)], [made_run(TIMES[1:])], "got 400 requests, seed 0, and 399, seed 0"),
        ([made_run(TIMES)], [made_run(TIMES, prompt=PROMPTS)], "on the same requests"),
        ([made_run(TIMES)], [made_run(TIMES, seed=1)], "seed 0, and 400, seed 1"),
        ([made_run(TIMES[:9])], [made_run(TIMES[:9])], "at least 10 requests with a ttft_mean_ms .* got 9"),
        ([made_run([math.nan] * 50)], [made_run([math.nan] * 50)], "got 0"),
    ],
)
def test_runs_that_do_not_pair_are_refused(ours: list[Run], theirs: list[Run], why: str) -> None:
    with pytest.raises(Incomparable, match=why):
        compare(ours, theirs, "ttft_mean_ms")


def test_a_long_trace_is_compared_in_two_seconds_of_cpu() -> None:
    times = np.exp(np.random.default_rng(0).normal(5, 1, 22_000))
    began = time.process_time()

    compare([made_run(times)], [made_run(times[::-1])], "ttft_mean_ms")
    compare([made_run(times)], [made_run(times[::-1])], "ttft_p99_ms")

    assert time.process_time() - began < 2.0
