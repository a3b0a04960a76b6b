"""What another policy would have had, in truth and by estimate, and how often the one lies in the other."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.off_policy import Estimate
from kvplane.controlplane.replay.timing import timing_named
from kvplane.tests.bench import off_policy_coverage as module
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.logging_policy import LoggingPolicy, Named, Offer
from kvplane.tests.bench.off_policy_coverage import (
    PAIRS,
    Found,
    Trial,
    alone_ms,
    coverage_rows,
    estimated,
    off_policy_coverage,
    tried,
)
from kvplane.tests.bench.workloads import Part, fleet_for, parts
from kvplane.tests.bench_tests.made_traces import made_traces

DYNAMO = timing_named("dynamo")
FLEET = FleetSettings(DYNAMO)
REWARDS = ("cached share", "prefill ms")


def test_a_prompt_alone_is_computed_in_steps_of_the_budget() -> None:
    def step_ms(tokens: int) -> float:
        return 4.209989e-07 * tokens * tokens + 1.518344e-02 * tokens + 1.650142e01

    assert alone_ms(DYNAMO, 5000, 1000, 8192) == pytest.approx(step_ms(4000))
    assert alone_ms(DYNAMO, 21_000, 1000, 8192) == pytest.approx(2 * step_ms(8192) + step_ms(3616))


def test_each_step_looks_back_at_what_was_there_before_it() -> None:
    """The second of two steps attends to the tokens of the first, 4 x 32 x 4096 operations a pair, and reads them."""
    engine = timing_named("h100_8b")

    attention_ms = 1e3 * 8192 * 8192 * 4 * 32 * 4096 / (0.5 * 989e12)
    read_ms = 1e3 * 8192 * 131_072 / (0.7 * 3.35e12)
    first_ms = alone_ms(engine, 8192, 0, 8192)

    assert alone_ms(engine, 16_384, 0, 8192) == pytest.approx(2 * first_ms + attention_ms + read_ms)
    assert alone_ms(engine, 16_384, 8192, 8192) == pytest.approx(first_ms + attention_ms + read_ms)


def test_the_truth_is_the_mean_over_the_other_policys_choices() -> None:
    log = offers(400)

    found = estimated(log, cached_by_taken(log), FLEET)

    # It takes a replica that has half of the prompt in every second decision, one that has nothing in the others.
    assert found.truths["cached share"] == pytest.approx(0.25)
    assert found.truths["prefill ms"] == pytest.approx(
        0.5 * alone_ms(DYNAMO, 1000, 500, 8192) + 0.5 * alone_ms(DYNAMO, 1000, 0, 8192)
    )
    assert found.differ == pytest.approx(0.5)
    assert found.as_foretold == 1.0
    assert set(found.estimates) == {(reward, by) for reward in REWARDS for by in ("IPS", "SNIPS", "DR")}
    for estimate in (found.estimates["cached share", by] for by in ("IPS", "SNIPS", "DR")):
        assert estimate.value == pytest.approx(0.25, abs=1e-5)
        assert estimate.doubt == ""


def test_what_a_replica_found_counts_in_the_log_and_in_the_truth() -> None:
    log = offers(100)
    less = cached_by_taken(log)
    less[0] -= 100  # evicted in between: the other policy would have taken that replica as well

    found = estimated(log, less, FLEET)

    assert found.as_foretold == 0.99
    assert found.truths["cached share"] == pytest.approx(0.25 - 0.1 / 100)


def test_rows_count_the_seeds_whose_interval_holds_the_truth() -> None:
    trial = Trial(Part(Path("made.jsonl"), 0, 500), "dynamo", "lmetric", FLEET, 0.01, 1)
    found = [found_with(low, "wide" if low == 0.0 else "") for low in (0.1, 0.2, 0.4, 0.0)]

    [row] = coverage_rows(trial, found)

    assert (row.covered, row.doubted, row.seeds, row.decisions) == (0.75, 0.25, 4, 500)
    assert [row.truth, row.width, row.error] == pytest.approx([0.3, 0.325, 0.2])
    assert row.met is False


@pytest.mark.parametrize(("differ", "met"), [(0.2, True), (0.19, False)])
def test_a_pair_that_hardly_differs_proves_nothing(differ: float, met: bool) -> None:
    trial = Trial(Part(Path("made.jsonl"), 0, 500), "dynamo", "lmetric", FLEET, 0.01, 1)

    [row] = coverage_rows(trial, [found_with(0.1, "", differ)] * 10)

    assert (row.covered, row.met) == (1.0, met)


def test_a_log_of_a_small_trace_is_estimated_from_end_to_end(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 120), ["made"])[0]

    rows = list(off_policy_coverage(part, PAIRS[:1], 0.2, 2, "dynamo", jobs=1))

    assert [(row.reward, row.estimator) for row in rows] == [
        (reward, by) for reward in REWARDS for by in ("IPS", "SNIPS", "DR")
    ]
    for row in rows:
        assert 0 < row.differ <= 1
        assert row.as_foretold == 1.0
        assert row.truth > 0
    assert all(row.truth < 1 for row in rows if row.reward == "cached share")


def test_a_seed_gives_the_same_log_again_and_another_one_another(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 120), ["made"])[0]
    one = Trial(part, *PAIRS[0], fleet_for(part, "dynamo"), 0.2, 1)

    assert tried(one) == tried(one)
    assert tried(one) != tried(Trial(part, *PAIRS[0], one.fleet, 0.2, 2))


def test_a_decision_that_is_not_logged_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(LoggingPolicy):
        def __init__(self, policy: Named, target: Named, floor: float, random: Random, log: list[Offer]) -> None:
            super().__init__(policy, target, floor, random, log[:])

    monkeypatch.setattr(module, "LoggingPolicy", Forgetful)
    part = parts(made_traces(tmp_path, 30), ["made"])[0]

    with pytest.raises(BenchError, match="adaptive decided 0 of 30 requests"):
        tried(Trial(part, *PAIRS[0], fleet_for(part, "dynamo"), 0.2, 1))


def offers(count: int) -> list[Offer]:
    """Two replicas, the first with half of the prompt: the policy's own choice always, the other's every second time.

    A tenth is explored, as often where both policies agree as where they do not.
    """
    log = []
    for number in range(count):
        explored = number % 20 in (3, 6)
        target = np.array([1.0, 0.0] if number % 2 == 0 else [0.0, 1.0])
        log.append(
            Offer(
                1000,
                np.array([500, 0]),
                np.array([10 * number, 0]),
                np.array([1, 2]),
                int(explored),
                np.array([1.0, 0.0]),
                0.1 if explored else 0.9,
                target,
            )
        )
    return log


def cached_by_taken(log: list[Offer]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([offer.cached_tokens[offer.taken] for offer in log])


def found_with(low: float, doubt: str, differ: float = 0.5) -> Found:
    estimate = Estimate(0.5, low, 0.5, 100.0, 0.0, doubt)
    return Found(differ, 1.0, {"cached share": 0.3}, {("cached share", "IPS"): estimate})
