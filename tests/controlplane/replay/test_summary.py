"""A run in figures that can be worked out by hand."""

import math

import numpy as np
import pytest

from kvplane.controlplane.replay.summary import Slo, summarise, within_slo, work_tokens
from kvplane.tests.controlplane.replay.made_run import made_run

NAN = math.nan


def test_times_are_means_and_nearest_ranks() -> None:
    found = summarise(made_run([100.0, 200.0, 300.0, 1000.0]))

    assert found.ttft_mean_ms == 400.0
    assert (found.ttft_p50_ms, found.ttft_p90_ms, found.ttft_p99_ms) == (200.0, 1000.0, 1000.0)
    assert (found.e2e_mean_ms, found.e2e_p50_ms, found.e2e_p99_ms) == (500.0, 300.0, 1100.0)


def test_tpot_is_over_the_tokens_behind_the_first_and_leaves_out_answers_of_one() -> None:
    found = summarise(made_run([0.0, 0.0, 0.0], e2e_ms=[100.0, 300.0, 0.0], output=[11, 11, 1]))

    assert (found.tpot_mean_ms, found.tpot_p90_ms) == (20.0, 30.0)


def test_the_hit_rate_is_weighted_by_tokens_and_counts_a_failed_prompt_as_not_found() -> None:
    found = summarise(made_run([1.0, 1.0, NAN], prompt=[100, 300, 400], cached=[100, 0, 400], replica=[0, 0, -1]))

    assert found.hit_rate == 100 / 800


def test_a_failed_request_misses_the_slo_and_is_left_out_of_times() -> None:
    found = summarise(made_run([100.0, NAN], replica=[0, -1]))

    assert (found.requests, found.failed, found.slo_attainment, found.ttft_mean_ms) == (2, 1, 0.5, 100.0)


@pytest.mark.parametrize(
    "ttft_ms, e2e_ms, output, within",
    [
        (2000.0, 3000.0, 11, True),  # 2 s, and 100 ms a token: both just so
        (2001.0, 3001.0, 11, False),
        (2000.0, 3010.0, 11, False),
        (2000.0, 2000.0, 1, True),
    ],
)
def test_the_slo_holds_for_the_first_token_and_for_each_behind_it(
    ttft_ms: float, e2e_ms: float, output: int, within: bool
) -> None:
    run = made_run([ttft_ms], e2e_ms=[e2e_ms], output=[output])

    assert within_slo(run, Slo()).tolist() == [within]


def test_goodput_and_tokens_are_a_second_from_the_first_arrival_to_the_last_answer() -> None:
    # Arrivals at 0, 1 and 2 s; the last answer ends at 2 + 4 s.
    run = made_run([100.0, 100.0, 3900.0], e2e_ms=[200.0, 200.0, 4000.0], output=[11, 11, 2])

    found = summarise(run)

    assert found.goodput_rps == 2 / 6
    assert found.output_tokens_per_s == 24 / 6


def test_imbalance_is_that_of_tokens_computed() -> None:
    # r-0: 100 - 80 + 10 = 30; r-1: 50 + 10 + 20 + 10 = 90. Jain: 120^2 / (2 (900 + 8100)).
    run = made_run([1.0, 1.0, 1.0], prompt=[100, 50, 20], cached=[80, 0, 0], output=[10, 10, 10], replica=[0, 1, 1])

    found = summarise(run)

    assert work_tokens(run).tolist() == [30.0, 90.0]
    assert found.jain == 14400 / 18000
    assert found.max_over_mean == 1.5


def test_evictions_are_told_and_duplicates_averaged() -> None:
    found = summarise(made_run([1.0], duplicates=[4.0, 8.0], evicted_blocks=7))

    assert (found.evicted_blocks, found.duplicate_blocks) == (7, 6.0)


def test_each_tenant_has_its_own_figures() -> None:
    run = made_run(
        [100.0, 300.0, NAN],
        prompt=[100, 100, 300],
        cached=[50, 20, 0],
        tenant=[0, 1, 1],
        tenants=("acme", "zeta", "idle"),
        replica=[0, 0, -1],
    )

    tenants = summarise(run).tenants

    assert (tenants["acme"].requests, tenants["acme"].hit_rate, tenants["acme"].ttft_mean_ms) == (1, 0.5, 100.0)
    assert (tenants["zeta"].requests, tenants["zeta"].hit_rate, tenants["zeta"].ttft_p99_ms) == (2, 0.05, 300.0)
    assert tenants["idle"].requests == 0
    assert math.isnan(tenants["idle"].hit_rate)


@pytest.mark.parametrize("ttft_ms", [[], [NAN, NAN]])
def test_a_run_that_answered_nothing_has_no_times(ttft_ms: list[float]) -> None:
    found = summarise(made_run(ttft_ms, replica=[-1] * len(ttft_ms)))

    assert found.failed == len(ttft_ms)
    assert np.isnan([found.ttft_mean_ms, found.e2e_p99_ms, found.tpot_mean_ms, found.jain, found.goodput_rps]).all()
