"""Replays that are kept, and replays in processes of their own."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from kvplane.controlplane.replay.run import Run
from kvplane.policies import PolicySettings
from kvplane.tests.bench import replays as replays_module
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.replays import Replay, Replays, each, load, run_alone, save
from kvplane.tests.bench.workloads import fleet_for, parts
from kvplane.tests.bench_tests.made_traces import made_traces
from kvplane.tests.controlplane.replay.made_run import made_run


def test_a_run_that_was_saved_is_loaded_as_it_was(tmp_path: Path) -> None:
    run = made_run([1.5, float("nan")], seed=3, load=[[1, 2], [0, 4]], duplicates=[0, 7], evicted_blocks=5)

    save(run, tmp_path / "new" / "kept.npz")

    assert_same(load(tmp_path / "new" / "kept.npz"), run)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept.npz"]


def test_a_file_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(b"half of a")

    with pytest.raises(BenchError, match=r"wanted a kept replay in .*kept\.npz"):
        load(tmp_path / "kept.npz")


def test_what_is_kept_is_not_run_again_unless_its_policy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def noted(asked: Replay) -> Run:
        ran.append(asked.name)
        return run_alone(asked)

    monkeypatch.setattr(replays_module, "run_alone", noted)
    turns = replay_of(tmp_path, "round_robin")
    least = replay_of(tmp_path, "least_loaded")

    first = Replays(1, tmp_path / "keep").run([turns])
    second = Replays(1, tmp_path / "keep").run([turns, least])
    Replays(1, tmp_path / "keep", again=["least_loaded"]).run([turns, least])
    Replays(1).run([turns])

    assert ran == ["round_robin", "least_loaded", "least_loaded", "round_robin"]
    assert_same(second[0], first[0])
    assert [run.policy for run in second] == ["round_robin", "least_loaded"]


def test_whatever_changes_a_run_changes_its_key(tmp_path: Path) -> None:
    one = replay_of(tmp_path, "dynamo")
    knob = PolicySettings.model_validate({"name": "dynamo", "dynamo": {"prefill_load_scale": 2}})
    others = [
        replace(one, part=replace(one.part, first=1)),
        replace(one, part=replace(one.part, speedup=2.0)),
        replace(one, part=replace(one.part, requests=9)),
        replace(one, policy=knob),
        replace(one, policy=None),
        replace(one, fleet=replace(one.fleet, lag_s=0.1)),
        replace(one, seed=2),
    ]

    assert len({one.key, *(other.key for other in others)}) == 1 + len(others)


def test_neither_a_label_nor_another_policys_knobs_change_a_key(tmp_path: Path) -> None:
    one = replay_of(tmp_path, "dynamo")
    settings = PolicySettings.model_validate({"name": "dynamo", "smg": {"match_threshold": 0.1}})

    assert replace(one, label="another", policy=settings).key == one.key


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_once_and_comes_with_its_place(jobs: int) -> None:
    assert sorted(each(abs, [-7, 5, -3], jobs)) == [(0, 7), (1, 5), (2, 3)]


def test_a_replay_that_cannot_be_run_is_told_by_its_label(tmp_path: Path) -> None:
    small = replay_of(tmp_path, "round_robin")

    with pytest.raises(BenchError, match=r"round_robin on made: .*made"):
        Replays(1).run([replace(small, fleet=replace(small.fleet, blocks=2))])


def replay_of(folder: Path, name: str) -> Replay:
    part = parts(made_traces(folder, 12), ["made"])[0]
    policy = PolicySettings.model_validate({"name": name})
    return Replay(f"{name} on made", part, policy, fleet_for(part, "dynamo"))


def assert_same(found: Run, wanted: Run) -> None:
    for field in fields(Run):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        assert type(one) is type(other), field.name
        np.testing.assert_array_equal(one, other, field.name)
