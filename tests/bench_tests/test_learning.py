"""The learning benchmark: what a pupil is told, what it is compared with, and when it counts as recovered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvplane.controlplane.replay.run import Run
from kvplane.policies import PolicyName
from kvplane.policies.rates import Rates
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.learning import Pupil, behind, control, learned_rates, recovered_after, slowed, wrong_prior
from kvplane.tests.bench.replays import Replay, Replays
from kvplane.tests.bench.workloads import Part, parts
from kvplane.tests.bench_tests.made_traces import made_traces
from kvplane.tests.bench_tests.told_replays import ToldReplays
from kvplane.tests.controlplane.replay.made_run import made_run

PUPIL = Pupil("estimated_ttft", "dynamo", learned=100, window=20)
RATES = Rates(base_ms=10.0, token_ms=0.02, token_pair_ms=1e-6)


@pytest.mark.parametrize("ours", ["adaptive", "estimated_ttft"])
def test_the_rates_that_are_learned_are_those_of_the_engine(ours: PolicyName, tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 400, apart_ms=400.0), ["made"])[0]

    rates = learned_rates(part, replace(PUPIL, ours=ours))

    # Dynamo's engine, one prompt at a time: 16.5 ms and 0.0152 ms a token that is to be computed.
    assert rates.prefill_ms(200.0, 1000.0) == pytest.approx(16.50142 + 200 * 0.01518344, rel=0.1)


def test_a_run_without_its_first_requests_keeps_every_other() -> None:
    run = made_run([1.0, 2.0, 3.0], prompt=[10, 20, 30], load=[[1, 1]])

    rest = behind(run, 1)

    assert rest.ttft_ms.tolist() == [2.0, 3.0]
    assert rest.prompt_tokens.tolist() == [20, 30]
    assert (len(rest.replica), rest.load.tolist()) == (2, [[1.0, 1.0]])
    with pytest.raises(BenchError, match="wanted more than 3 requests to compare; got 3"):
        behind(run, 3)


def test_recovered_is_who_stays_within_a_tenth_for_a_windows_length_of_windows() -> None:
    knew = np.full(12, 100.0)

    assert recovered_after(np.full(12, 110.0), knew, 2) == 0
    assert recovered_after(np.array([500.0] * 3 + [110.0] * 9), knew, 2) == 3
    # The windows from decision 1 to 4 hold the slow fourth one, or are alone between it and the first.
    assert recovered_after(np.array([200.0, 100, 100, 200, *[100.0] * 8]), knew, 2) == 4
    assert recovered_after(np.full(12, 110.2), knew, 2) is None


def test_a_rolling_mean_needs_two_windows() -> None:
    with pytest.raises(BenchError, match="wanted at least 20 requests behind the change; got 19"):
        recovered_after(np.ones(19), np.ones(19), 10)


def test_a_prior_is_wrong_by_a_factor_of_three_of_what_fits(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 200), ["made"])[0]

    def run_of(asked: Replay) -> Run:
        """Who began too low stays a tenth behind, who began too high is behind only while it learns."""
        token_ms = token_ms_of(asked)
        times = made_run([100.0] * part.requests, seed=1)
        if token_ms == pytest.approx(0.02 / 3):
            return scaled_run(times, 1.1, 1.1)
        return scaled_run(times, 9.0, 1.0) if token_ms == pytest.approx(0.06) else times

    replays = ToldReplays(run_of)
    low, high = wrong_prior(part, PUPIL, RATES, replays)

    assert [token_ms_of(each) for each in replays.asked] == pytest.approx([0.02, 0.02 / 3, 0.06])
    assert [low.ratio, high.ratio] == pytest.approx([1.1, 1.0])
    assert [low.met, high.met] == [False, True]
    assert low.decisions == high.decisions == 100


def test_too_few_requests_to_learn_from_are_an_error() -> None:
    with pytest.raises(BenchError, match="wanted at least 200 requests of made; got 199"):
        learned_rates(Part(Path("made.jsonl"), 0, 199), PUPIL)


def test_half_of_the_fleet_slows_in_mid_run_beside_one_that_was_slow_from_the_start(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 2000), ["made"])[0]

    def run_of(asked: Replay) -> Run:
        """Forty decisions behind the change are five times as slow as the reference's."""
        times = np.full(asked.part.requests, 100.0)
        if asked.fleet.incidents[0].at_ms > 0:
            change = asked.part.requests // 2
            times[change : change + 40] = 500.0
        return made_run(times, seed=1, prompt=[asked.part.first + number + 1 for number in range(asked.part.requests)])

    replays = ToldReplays(run_of)
    row = slowed(part, PUPIL, replays)

    assert (row.recovered_after, row.met) == (40, True)
    assert (row.worst, row.ratio) == (5.0, 1.0)
    for asked in replays.asked:
        assert [(each.kind, each.replica, each.factor) for each in asked.fleet.incidents] == [
            ("slows", replica, 2.0) for replica in range(4)
        ]
    firsts = [asked.part.first for asked in replays.asked]
    assert firsts == [0, 0, 125, 125, 250, 250, 375, 375]
    assert {asked.part.requests for asked in replays.asked} == {2000 - 375}
    # A request comes every 40 ms.
    assert [asked.fleet.incidents[0].at_ms for asked in replays.asked] == [812 * 40.0, 0.0] * 4


def test_the_negative_control_is_the_least_loaded_replica(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 100), ["made"])[0]
    times = {"estimated_ttft": 103.0, "least_loaded": 100.0}

    row = control(part, PUPIL, ToldReplays(lambda asked: made_run([times[asked.name]] * 100)))

    assert (row.reference, row.at_most, row.met) == ("least_loaded", 1.02, False)
    assert row.ratio == pytest.approx(1.03)


def test_a_small_trace_is_learned_from_end_to_end(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 220), ["made"])[0]

    rows = list(wrong_prior(part, PUPIL, learned_rates(part, PUPIL), Replays(1)))

    assert [row.check for row in rows] == ["rates x0.33", "rates x3"]
    assert all(0.5 < row.ratio < 2 for row in rows)


def token_ms_of(asked: Replay) -> float:
    assert asked.policy is not None
    return asked.policy.estimated_ttft.rates.token_ms


def scaled_run(run: Run, learning: float, learned: float) -> Run:
    factors = np.where(np.arange(len(run.ttft_ms)) < PUPIL.learned, learning, learned)
    return made_run(run.ttft_ms * factors, seed=1, prompt=run.prompt_tokens.tolist())
