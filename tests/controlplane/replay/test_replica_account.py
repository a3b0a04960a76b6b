"""What a replica says of itself: how busy it is, and what came to its cache and left it."""

from kvplane.controlplane.replay.job import CacheChange
from kvplane.controlplane.replay.simulated_replica import SimulatedReplica

from .replicas import Plain, a_job, a_replica, serve


def test_load_counts_what_is_waiting_being_computed_and_running() -> None:
    replica = a_replica(blocks=100, token_budget=8)
    serve(replica, a_job(0, block_ids=[1], prompt_tokens=4, output_tokens=1))
    at_ms = 1000.0

    replica.submit(a_job(1, block_ids=[1, 2, 3], prompt_tokens=10, output_tokens=9), at_ms)
    replica.submit(a_job(2, block_ids=[4, 5], prompt_tokens=8, output_tokens=9), at_ms)
    loads = []
    for later_ms in (0.0, 1.0, 18.0, 36.0):
        replica.advance(at_ms + later_ms)
        load = replica.load()
        loads.append((load.waiting_prefill_tokens, load.running_sequences, load.decode_blocks, load.free_blocks))

    # 6 and 8 tokens are not cached. The first step computes 6 and 2 of them until 18, the second one 6 until 35.
    assert loads == [(14, 0, 0, 100), (14, 2, 4, 96), (6, 2, 4, 96), (0, 2, 5, 95)]


def test_changes_are_told_at_the_end_of_the_step_that_made_them() -> None:
    replica = a_replica(blocks=3)
    serve(replica, a_job(0, block_ids=[1, 2], prompt_tokens=7, output_tokens=3))
    stored = replica.changes()
    serve(replica, a_job(1, block_ids=[7, 8, 9], prompt_tokens=12, output_tokens=1), 1000.0)

    # The prompt's second block is full with the first generated token, and so nobody else's.
    assert stored == [CacheChange(17.0, True, "gpu", 0, None, (1,)), CacheChange(28.0, True, "gpu", 0, 1, (-1,))]
    assert replica.changes() == [
        CacheChange(1022.0, False, "gpu", 0, None, (-1, 1)),
        CacheChange(1022.0, True, "gpu", 0, None, (7, 8, 9)),
    ]
    assert replica.evicted_blocks == 2


def test_nothing_is_told_where_nobody_listens() -> None:
    replica = SimulatedReplica(Plain(), blocks=8, block_tokens=4, told=False)

    serve(replica, a_job(0, block_ids=[1, 2], prompt_tokens=8))

    assert replica.changes() == []
    assert replica.cached_tokens(0, [1, 2, 3], 12) == 8
