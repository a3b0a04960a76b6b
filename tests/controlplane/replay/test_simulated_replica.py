"""A replica in virtual time, by hand: when each thing happens, and what is reused."""

import math

import numpy as np
import pytest

from kvplane.controlplane.replay.job import Job
from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.simulated_replica import SimulatedReplica
from kvplane.controlplane.replay.timing import Slowed, timing_named

from .replicas import Plain, a_job, a_replica, run, serve, spent
from .shared_traces import shared_trace


def test_a_lone_request_takes_what_dynamos_own_replay_says() -> None:
    replica = SimulatedReplica(timing_named("dynamo"), blocks=2048, block_tokens=512)
    job = Job(0, 0, np.arange(5), 2290, 316)

    replica.submit(job, 0.0)
    run(replica)

    assert job.first_token_ms == pytest.approx(53.479258, abs=1e-6)
    assert job.ended_ms == pytest.approx(1901.253814, abs=1e-4)


def test_the_prompt_is_computed_first_and_then_a_token_a_step() -> None:
    replica = a_replica()
    job = a_job(prompt_tokens=6, output_tokens=3)

    replica.submit(job, 100.0)
    seen = [replica.advance(at_ms) for at_ms in (115.9, 116.0, 137.9, 138.0)]

    # 10 + 6 for the prompt and its first token, twice 10 + 1 for the others.
    assert (job.arrived_ms, job.began_ms, job.first_token_ms, job.ended_ms) == (100.0, 100.0, 116.0, 138.0)
    assert seen == [[], [job], [], [job]]


def test_all_who_come_at_one_time_are_in_one_step() -> None:
    replica = a_replica()
    jobs = [a_job(key, block_ids=[10 * key], prompt_tokens=4, output_tokens=1) for key in range(3)]

    for job in jobs:
        replica.advance(50.0)
        replica.submit(job, 50.0)
    run(replica)

    assert [job.first_token_ms for job in jobs] == [72.0, 72.0, 72.0]


def test_who_comes_a_rounding_error_later_is_still_in_it() -> None:
    replica = a_replica()
    jobs = [a_job(key, block_ids=[10 * key], output_tokens=1) for key in range(2)]

    for job, at_ms in zip(jobs, (50.0, 50.0 + 1e-9), strict=True):
        replica.advance(at_ms)
        replica.submit(job, at_ms)
    run(replica)

    assert jobs[0].first_token_ms == jobs[1].first_token_ms == pytest.approx(68.0)


def test_who_comes_during_a_step_waits_for_its_end() -> None:
    replica = a_replica()
    first, second = a_job(0, output_tokens=100), a_job(1, block_ids=[9], output_tokens=1)

    replica.submit(first, 0.0)
    replica.advance(40.0)  # steps end at 14, 25, 36, 47
    replica.submit(second, 40.0)
    run(replica)

    assert (second.began_ms, second.first_token_ms) == (47.0, 47.0 + 10 + 4 + 1)
    assert first.ended_ms == 14.0 + 99 * 11 + 4  # one of its steps took the newcomer along


def test_a_long_prompt_is_cut_to_the_budget_that_decoding_leaves() -> None:
    replica = a_replica(token_budget=8)
    early, late = a_job(0, output_tokens=50), a_job(1, block_ids=range(9, 14), prompt_tokens=20, output_tokens=1)

    replica.submit(early, 0.0)
    replica.advance(14.0)
    replica.submit(late, 14.0)
    run(replica)

    # Steps of 7, 7 and 6 new tokens beside one sequence.
    assert late.first_token_ms == 14.0 + 3 * 11 + 20


def test_a_cached_prefix_is_not_computed_again() -> None:
    replica = a_replica()
    serve(replica, a_job(0, block_ids=[1, 2, 3], prompt_tokens=12))
    job = a_job(1, block_ids=[1, 2, 7], prompt_tokens=12, output_tokens=1)

    expected = replica.cached_tokens(0, [1, 2, 7], 12)
    serve(replica, job)

    assert expected == job.cached_tokens == 8
    assert spent(job) == 10 + 4


def test_the_last_token_is_always_computed() -> None:
    replica = a_replica()
    serve(replica, a_job(0, block_ids=[1, 2], prompt_tokens=8))
    job = a_job(1, block_ids=[1, 2], prompt_tokens=8)

    assert replica.cached_tokens(0, [1, 2], 8) == 4
    serve(replica, job)

    assert job.cached_tokens == 4


def test_a_block_that_is_not_full_is_never_reused() -> None:
    replica = a_replica()
    serve(replica, a_job(0, block_ids=[1, 2], prompt_tokens=7))

    assert replica.cached_tokens(0, [1, 2], 7) == 4
    assert replica.cached_tokens(0, [1, 2, 3], 12) == 4


def test_a_prompt_reuses_what_the_one_before_it_computes_in_the_same_step() -> None:
    replica = a_replica()
    first, second = (a_job(key, block_ids=[1, 2, 3], prompt_tokens=12) for key in range(2))

    replica.submit(first, 0.0)
    replica.submit(second, 0.0)
    run(replica)

    assert (first.cached_tokens, second.cached_tokens) == (0, 8)
    assert first.first_token_ms == second.first_token_ms == 10 + 12 + 4


def test_domains_share_nothing() -> None:
    replica = a_replica()
    serve(replica, a_job(0, block_ids=[1, 2], prompt_tokens=8))
    other = a_job(1, domain=1, block_ids=[1, 2], prompt_tokens=8)

    serve(replica, other)

    assert other.cached_tokens == 0


def test_no_more_sequences_run_than_may() -> None:
    replica = a_replica(max_sequences=2)
    jobs = [a_job(key, block_ids=[10 + key], output_tokens=5) for key in range(3)]

    for job in jobs:
        replica.submit(job, 0.0)
    replica.advance(20.0)
    running = replica.load().running_sequences
    run(replica)

    assert running == 2
    assert jobs[2].began_ms == jobs[0].ended_ms == jobs[1].ended_ms


def test_who_finds_no_room_waits_until_somebody_is_done() -> None:
    replica = a_replica(blocks=4)
    first = a_job(0, block_ids=[1, 2, 3], prompt_tokens=12, output_tokens=4)
    second = a_job(1, block_ids=[7, 8], prompt_tokens=8, output_tokens=1)

    replica.submit(first, 0.0)
    replica.advance(30.0)
    foreseen = replica.first_token_if_submitted(second, 30.0)
    replica.submit(second, 30.0)
    run(replica)

    assert second.began_ms == first.ended_ms
    assert foreseen == second.first_token_ms


def test_the_youngest_gives_way_when_blocks_run_out_and_keeps_its_first_token() -> None:
    replica = a_replica(blocks=5)
    first = a_job(0, block_ids=[1, 2], prompt_tokens=8, output_tokens=9)
    second = a_job(1, block_ids=[7, 8], prompt_tokens=7, output_tokens=6)

    replica.submit(first, 0.0)
    replica.submit(second, 0.0)
    replica.advance(60.0)
    gave_way = replica.load()
    run(replica)

    # Both have their first token at 25, and the first one takes the fifth block. In the step that begins at 37 the
    # second one needs a third block and gives way until the first one, alone in seven steps of 11 ms, is done.
    assert (gave_way.waiting_prefill_tokens, gave_way.running_sequences) == (7, 1)
    assert first.first_token_ms == second.first_token_ms == 25.0
    assert first.ended_ms == 25.0 + 12 + 7 * 11
    # Of the 9 tokens that it has by then, one block is still cached; 3 of its prompt are computed, and 2 of its own.
    assert second.ended_ms == first.ended_ms + (10 + 3 + 1) + 3 * 11


def test_who_gave_way_stands_before_those_who_wait() -> None:
    replica = a_replica(blocks=6)
    first = a_job(0, block_ids=[1, 2], prompt_tokens=8, output_tokens=9)
    second = a_job(1, block_ids=[7, 8], prompt_tokens=7, output_tokens=6)
    third = a_job(2, block_ids=[3, 4, 5, 6], prompt_tokens=16, output_tokens=1)
    last = a_job(3, block_ids=[9], prompt_tokens=4, output_tokens=1)

    for job in (first, second, third):
        replica.submit(job, 0.0)
    replica.advance(90.0)  # the second one gave way at 73, with 5 of its 6 tokens
    foreseen = replica.first_token_if_submitted(last, 90.0)
    replica.submit(last, 90.0)
    run(replica)

    # Its last token is a step of 10 + 1 once the first one is done, and then there is room for those who waited.
    assert first.ended_ms == 25.0 + 4 * 12 + 4 * 11
    assert second.ended_ms == third.began_ms == last.began_ms == first.ended_ms + 11
    assert foreseen == last.first_token_ms == third.began_ms + 10 + 16 + 4


def test_a_request_that_could_never_fit_is_refused() -> None:
    replica = a_replica(blocks=4)
    fits, too_long = a_job(0, output_tokens=13), a_job(1, output_tokens=14)  # the last token is never computed

    assert replica.first_token_if_submitted(too_long, 0.0) == math.inf
    replica.submit(fits, 0.0)
    replica.submit(too_long, 0.0)
    run(replica)

    assert (fits.refused, too_long.refused) == (False, True)
    assert too_long.began_ms is None


def test_blocks_below_the_gpu_are_fetched_instead_of_computed() -> None:
    replica = a_replica(blocks=3, cpu_blocks=2, disk_blocks=2)
    serve(replica, a_job(0, block_ids=[1, 2, 3], prompt_tokens=12, output_tokens=1))
    serve(replica, a_job(1, block_ids=[7, 8, 9], prompt_tokens=12, output_tokens=1))
    job = a_job(2, block_ids=[1, 2, 3], prompt_tokens=11, output_tokens=1)

    foreseen = replica.first_token_if_submitted(job, 1e4)
    serve(replica, job, 1e4)

    # Two blocks from the CPU, 1 ms for each of their 8 tokens; the third one had sunk to the disk and is not reusable.
    assert job.cached_tokens == 8
    assert foreseen == job.first_token_ms
    assert spent(job) == 8 + 10 + 3


def test_a_slower_replica_is_slower_from_its_next_step_on() -> None:
    replica = a_replica()
    job = a_job(0, output_tokens=5)

    replica.submit(job, 0.0)
    replica.advance(20.0)
    replica.retime(Slowed(Plain(), 2.0), 20.0)
    run(replica)

    assert job.ended_ms == 14.0 + 11 + 3 * 22


def test_round_robin_on_mooncake_is_dynamos_own_replay() -> None:
    trace = read_trace(shared_trace("mooncake_conversation_head"))
    dynamo = timing_named("dynamo")
    replicas = [SimulatedReplica(dynamo, blocks=2048, block_tokens=512, told=False) for _ in range(8)]
    jobs = []
    for number, request in enumerate(trace.requests):
        replica = replicas[number % 8]
        job = Job(number, 0, request.block_ids, request.prompt_tokens, request.output_tokens)
        replica.advance(request.at_ms)
        replica.submit(job, request.at_ms)
        jobs.append(job)
    for replica in replicas:
        run(replica)

    reuse = sum(job.cached_tokens for job in jobs) / sum(job.prompt_tokens for job in jobs)
    ttft_ms = np.mean([(job.first_token_ms or math.nan) - job.arrived_ms for job in jobs])
    e2e_ms = np.mean([(job.ended_ms or math.nan) - job.arrived_ms for job in jobs])
    # As ai-dynamo-runtime 1.6.1 reports them.
    assert reuse == pytest.approx(0.08035, abs=1e-5)
    assert ttft_ms == pytest.approx(326.38, abs=0.01)
    assert e2e_ms == pytest.approx(2958.45, abs=0.01)
