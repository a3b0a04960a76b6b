"""The routing benchmark: what is tuned on what, judged on what, against whom."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from kvplane.controlplane.replay.run import Run
from kvplane.policies import PolicyName
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.replays import Replay, Replays
from kvplane.tests.bench.routing import PEERS, Contest, overload, routing, thirds
from kvplane.tests.bench.routing_rows import Judged, judged, routing_row
from kvplane.tests.bench.workloads import Part, parts
from kvplane.tests.bench_tests.made_traces import made_traces
from kvplane.tests.bench_tests.told_replays import ToldReplays
from kvplane.tests.controlplane.replay.made_run import made_run

CONTEST = Contest("estimated_ttft", "dynamo", (2.0, 3.0, 4.0), peers=("round_robin", "smg", "consistent_hash"))
PART = Part(Path("made.jsonl"), 0, 40)


def test_the_overload_is_the_first_speed_that_doubles_a_90th_percentile() -> None:
    assert overload(100.0, [(1.0, 100.0), (2.0, 199.9), (3.0, 200.0), (4.0, 900.0)]) == 3.0
    assert overload(100.0, [(1.0, 100.0), (2.0, 199.9)]) is None


def test_a_third_is_for_tuning_and_the_rest_for_judging() -> None:
    tuning, rest = thirds(Part(Path("made.jsonl"), 100, 50, speedup=2.0))

    assert (tuning.first, tuning.requests, rest.first, rest.requests) == (100, 16, 116, 34)
    assert tuning.speedup == rest.speedup == 2.0


def test_each_peer_is_judged_at_the_setting_that_was_best_on_the_first_third(tmp_path: Path) -> None:
    whole = parts(made_traces(tmp_path, 60), ["made"])[0]

    def run_of(asked: Replay) -> Run:
        """On the first third a load factor of 1.5 is best; of what is judged the peer that hashes is."""
        times = {"round_robin": 100.0 if asked.part.speedup < 3 else 200.0, "smg": 90.0, "oracle": 40.0}
        ttft = times.get(asked.name, 60.0)
        if asked.name == "consistent_hash":
            assert asked.policy is not None
            factor = asked.policy.consistent_hash.load_factor
            ttft = 70.0 + abs(factor - 1.5) if asked.part.first == 0 else 80.0 - factor
        return made_run(np.linspace(0.9, 1.1, asked.part.requests) * ttft, policy=asked.name, seed=1)

    replays = ToldReplays(run_of)
    calm, overloaded = routing([whole], CONTEST, replays)

    assert (calm.speedup, overloaded.speedup) == (1.0, 3.0)
    assert calm.round_robin_p90_times == pytest.approx(1.0)
    assert overloaded.round_robin_p90_times == pytest.approx(2.0)
    for row in (calm, overloaded):
        assert row.best_peer.setting == "consistent_hash load_factor=1.5"
        assert row.best_peer.settings_tried >= 8
        assert row.best_peer.ttft is not None
        assert row.best_peer.ttft.ratio == pytest.approx(60 / 78.5)
        assert row.oracle.ttft is not None
        assert row.oracle.ttft.ratio == pytest.approx(60 / 40)
        assert row.requests == 40
    assert {(each.part.first, each.part.requests) for each in replays.asked} == {(0, 20), (20, 40)}
    assert {each.name for each in replays.asked if each.part.first == 0} == {"smg", "consistent_hash"}
    assert {each.part.speedup for each in replays.asked if each.part.first == 0} == {1.0, 3.0}


def test_a_trace_that_no_speed_overloads_is_an_error_before_anything_is_judged(tmp_path: Path) -> None:
    replays = ToldReplays(lambda asked: made_run([50.0] * asked.part.requests))

    with pytest.raises(BenchError, match=r"no speedup of made doubles .* 50 ms at 1x, .*50 ms at 4x; give greater"):
        next(routing(parts(made_traces(tmp_path, 60), ["made"]), CONTEST, replays))
    assert {each.name for each in replays.asked} == {"round_robin"}


@pytest.mark.parametrize(
    ("ours_ms", "slowest_ms", "cached", "must", "goal"),
    [
        (90.0, 100.0, 48, True, True),
        (90.0, 100.0, 47, True, False),  # 47 of the oracle's 50 is less than 95 %
        (93.0, 100.0, 50, True, False),
        (100.0, 105.0, 50, True, False),
        (100.1, 100.0, 50, False, False),
        (90.0, 106.0, 50, False, True),  # better on the whole, but 1 in 100 waits longer than is allowed
    ],
)
def test_a_row_says_whether_what_is_asked_was_met(
    ours_ms: float, slowest_ms: float, cached: int, must: bool, goal: bool
) -> None:
    times = np.full(1000, ours_ms)
    times[::50] = slowest_ms
    times[1] -= times.sum() - 1000 * ours_ms  # the mean is as it was
    ours = made_run(times, cached=[cached] * 1000)

    row = routing_row(
        PART, judged_of("ours", ours, None), peers(ours), judged_of("oracle", best(cached=50), ours), 100.0
    )

    assert (row.best_peer.policy, row.must, row.goal) == ("lmetric", must, goal)
    assert row.hit_rate_of_oracle == pytest.approx(cached / 50)


def test_a_small_trace_is_judged_from_end_to_end(tmp_path: Path) -> None:
    contest = Contest("estimated_ttft", "dynamo", (30.0, 100.0), peers=("round_robin", "lmetric"))

    rows = list(routing(parts(made_traces(tmp_path, 60), ["made"]), contest, Replays(1)))

    assert [row.speedup for row in rows] in ([1.0, 30.0], [1.0, 100.0])
    assert all(0 < row.ours.hit_rate < 1 for row in rows)


def test_the_peers_are_all_policies_but_ours() -> None:
    assert {*PEERS, "adaptive", "estimated_ttft"} == set(get_args(PolicyName))


def judged_of(name: str, run: Run, ours: Run | None) -> Judged:
    return judged(name, name, 1, run, ours)


def best(cached: int = 0) -> Run:
    return made_run([100.0] * 1000, policy="lmetric", cached=[cached] * 1000)


def peers(ours: Run) -> list[Judged]:
    slower = made_run([120.0] * 1000, policy="round_robin")
    return [judged_of("round_robin", slower, ours), judged_of("lmetric", best(), ours)]
