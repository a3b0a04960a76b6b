"""What holds for a replica whatever is asked of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.controlplane.replay import simulated_replica
from kvplane.controlplane.replay.simulated_replica import SimulatedReplica
from kvplane.controlplane.replay.timing import Timing, timing_named

from .replicas import AnySizes, Asked, Histories, Plain, Sizes, asked_job, replayed, run, submitted, times

Timings = st.sampled_from([Plain(), timing_named("dynamo"), timing_named("h100_8b")])


@settings(deadline=None)
@given(Histories, AnySizes, Timings)
def test_every_request_gets_all_its_tokens_and_time_runs_forward(
    history: list[Asked], sizes: Sizes, timing: Timing
) -> None:
    replica = SimulatedReplica(timing, **sizes)

    jobs = replayed(replica, history)

    for job in jobs:
        assert job.began_ms is not None
        assert job.first_token_ms is not None
        assert job.ended_ms is not None
        assert job.arrived_ms <= job.began_ms < job.first_token_ms <= job.ended_ms
        assert (job.first_token_ms == job.ended_ms) == (job.output_tokens == 1)
        assert 0 <= job.cached_tokens < job.prompt_tokens
        assert job.cached_tokens % 4 == 0
    load = replica.load()
    assert (load.waiting_prefill_tokens, load.running_sequences, load.decode_blocks) == (0, 0, 0)
    assert load.free_blocks == sizes["blocks"]
    assert replica.next_ms() is None


@settings(deadline=None)
@given(Histories, AnySizes, Timings)
def test_steps_in_a_row_give_what_single_steps_give(history: list[Asked], sizes: Sizes, timing: Timing) -> None:
    at_once, stepped = SimulatedReplica(timing, **sizes), SimulatedReplica(timing, **sizes)

    jobs = replayed(at_once, history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_replica, "decode_steps", lambda batch: 0)
        expected = replayed(stepped, history)

    assert [times(job) for job in jobs] == [pytest.approx(times(job), rel=1e-9) for job in expected]
    told, expected_told = at_once.changes(), stepped.changes()
    assert [change[1:] for change in told] == [change[1:] for change in expected_told]
    assert [change.at_ms for change in told] == pytest.approx([change.at_ms for change in expected_told], rel=1e-9)
    assert at_once.evicted_blocks == stepped.evicted_blocks


@settings(deadline=None)
@given(Histories, AnySizes)
def test_what_is_told_is_what_is_held_and_capacity_is_kept(history: list[Asked], sizes: Sizes) -> None:
    replica = SimulatedReplica(Plain(), **sizes)
    heard: dict[str, set[tuple[int, int]]] = {"gpu": set(), "cpu": set(), "disk": set()}
    rooms = {"gpu": sizes["blocks"], "cpu": sizes["cpu_blocks"], "disk": sizes["disk_blocks"]}

    def look(_now_ms: float) -> None:
        for change in replica.changes():
            names = {(change.domain, block_id) for block_id in change.block_ids}
            if change.stored:
                assert change.parent is None or (change.domain, change.parent) in set().union(*heard.values())
                heard[change.tier] |= names
            else:
                heard[change.tier] -= names
        load = replica.load()
        assert load.decode_blocks + load.free_blocks == sizes["blocks"]
        assert all(len(heard[tier]) <= room for tier, room in rooms.items())

    replayed(replica, history, look)

    assert set().union(*heard.values()) == set(replica.held())


@settings(deadline=None)
@given(Histories, Timings, st.sampled_from([5, 16, 8192]), st.sampled_from([2, 5, 256]), st.data())
def test_a_first_token_is_foreseen_exactly_where_there_is_room(
    history: list[Asked], timing: Timing, token_budget: int, max_sequences: int, data: st.DataObject
) -> None:
    replica = SimulatedReplica(
        timing, blocks=2000, block_tokens=4, token_budget=token_budget, max_sequences=max_sequences
    )
    at_ms = submitted(replica, history)
    newcomer = asked_job(99, data.draw(Histories)[0])
    at_ms += data.draw(st.sampled_from([0.0, 3.0, 50.0]))
    replica.advance(at_ms)

    foreseen = replica.first_token_if_submitted(newcomer, at_ms)

    replica.submit(newcomer, at_ms)
    run(replica)
    assert newcomer.first_token_ms == pytest.approx(foreseen, rel=1e-9)


@settings(deadline=None)
@given(Histories, AnySizes)
def test_foreseeing_changes_nothing(history: list[Asked], sizes: Sizes) -> None:
    asked, unasked = SimulatedReplica(Plain(), **sizes), SimulatedReplica(Plain(), **sizes)
    probe = asked_job(99, Asked(0.0, (0, 1, 0), 0, 5, 0))

    def look(now_ms: float) -> None:
        asked.first_token_if_submitted(probe, now_ms)

    assert [times(job) for job in replayed(asked, history, look)] == [times(job) for job in replayed(unasked, history)]
    assert asked.changes() == unasked.changes()
