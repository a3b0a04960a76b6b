"""Several routers against one: which fleets, and how much may be lost."""

from pathlib import Path

import pytest

from kvplane.controlplane.replay.run import Run
from kvplane.tests.bench.replays import Replay, Replays
from kvplane.tests.bench.several_routers import Routers, several_routers
from kvplane.tests.bench.workloads import parts
from kvplane.tests.bench_tests.made_traces import made_traces
from kvplane.tests.bench_tests.told_replays import ToldReplays
from kvplane.tests.controlplane.replay.made_run import made_run

ROUTERS = Routers(8, 100.0, "estimated_ttft", "dynamo")


@pytest.mark.parametrize(
    ("several_ms", "several_cached", "met"),
    [(104.0, 49, True), (106.0, 50, False), (100.0, 48, False)],
)
def test_a_little_may_be_lost_of_either(several_ms: float, several_cached: int, met: bool, tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 40), ["made"])[0]

    def run_of(asked: Replay) -> Run:
        one = asked.fleet.routers == 1
        return made_run([100.0 if one else several_ms] * 40, cached=[50 if one else several_cached] * 40)

    replays = ToldReplays(run_of)
    row = next(several_routers([part], ROUTERS, replays))

    assert [(asked.fleet.routers, asked.fleet.lag_s) for asked in replays.asked] == [(1, 0.0), (8, 0.1)]
    assert [row.ttft, row.hit_points] == pytest.approx([several_ms / 100, several_cached - 50])
    assert row.met is met


def test_a_small_trace_is_routed_from_end_to_end(tmp_path: Path) -> None:
    whole = parts(made_traces(tmp_path, 60), ["made"])

    row = next(several_routers(whole, ROUTERS, Replays(1)))

    assert 0 < row.hit_rate < 1
    assert row.ttft > 0
