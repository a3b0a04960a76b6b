"""Replicas to try things on: plain step times, small blocks, and random histories of requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Required, TypedDict

import numpy as np
from hypothesis import strategies as st

from kvplane.controlplane.replay.job import Job
from kvplane.controlplane.replay.simulated_replica import SimulatedReplica
from kvplane.controlplane.replay.timing import Floats, Step


@dataclass(frozen=True)
class Plain:
    """A step takes 10 ms, 1 ms a new token of a prompt, 1 ms a sequence; a fetched token takes 1 ms or 10 ms."""

    def step_ms(self, step: Step) -> float:
        return 10.0 + step.new_tokens + step.sequences

    def decode_ms(self, sequences: int, context_tokens: Floats, capacity_tokens: int) -> Floats:
        return np.full(len(context_tokens), 10.0 + sequences)

    def fetch_ms(self, cpu_tokens: int, disk_tokens: int) -> float:
        return 1.0 * cpu_tokens + 10.0 * disk_tokens


@dataclass(frozen=True)
class Asked:
    """A request of a random history; equal paths are equal prefixes."""

    after_ms: float
    path: tuple[int, ...]
    spare_tokens: int  # of the last block that are not there
    output_tokens: int
    domain: int


Histories = st.lists(
    st.builds(
        Asked,
        st.sampled_from([0.0, 0.0, 1.0, 7.5, 40.0, 300.0]),
        st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple),
        st.integers(0, 3),
        st.integers(1, 30),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=25,
)


class Sizes(TypedDict, total=False):
    """How large a replica is."""

    blocks: Required[int]
    block_tokens: Required[int]
    max_sequences: int
    token_budget: int
    cpu_blocks: int
    disk_blocks: int


def _sizes(blocks: int, max_sequences: int, token_budget: int, cpu_blocks: int, disk_blocks: int) -> Sizes:
    return Sizes(
        blocks=blocks,
        block_tokens=4,
        max_sequences=max_sequences,
        token_budget=token_budget,
        cpu_blocks=cpu_blocks,
        disk_blocks=disk_blocks,
    )


AnySizes = st.builds(
    _sizes,
    st.sampled_from([14, 20, 200]),  # blocks, at least as many as the longest request needs
    st.sampled_from([2, 5, 256]),
    st.sampled_from([5, 16, 8192]),
    st.sampled_from([0, 0, 6]),
    st.sampled_from([0, 0, 6]),
)


def a_replica(
    blocks: int = 100,
    max_sequences: int = 256,
    token_budget: int = 8192,
    cpu_blocks: int = 0,
    disk_blocks: int = 0,
) -> SimulatedReplica:
    return SimulatedReplica(Plain(), **_sizes(blocks, max_sequences, token_budget, cpu_blocks, disk_blocks))


def a_job(
    key: int = 0,
    domain: int = 0,
    block_ids: Sequence[int] = (1,),
    prompt_tokens: int = 4,
    output_tokens: int = 2,
) -> Job:
    return Job(key, domain, np.array(block_ids, np.int64), prompt_tokens, output_tokens)


def run(replica: SimulatedReplica) -> None:
    """Until it is idle."""
    while (next_ms := replica.next_ms()) is not None:
        replica.advance(next_ms)


def serve(replica: SimulatedReplica, job: Job, at_ms: float = 0.0) -> None:
    """Alone."""
    replica.submit(job, at_ms)
    run(replica)


def spent(job: Job) -> float:
    assert job.first_token_ms is not None
    return job.first_token_ms - job.arrived_ms


def times(job: Job) -> list[float]:
    assert job.began_ms is not None
    assert job.first_token_ms is not None
    assert job.ended_ms is not None
    return [job.arrived_ms, job.began_ms, job.first_token_ms, job.ended_ms, job.cached_tokens]


def replayed(
    replica: SimulatedReplica, history: Sequence[Asked], look: Callable[[float], None] = lambda now_ms: None
) -> Sequence[Job]:
    """Everything that was asked for, served; `look` is called whenever something may have happened."""
    jobs = []
    at_ms = 0.0
    for key, asked in enumerate(history):
        at_ms += asked.after_ms
        while (next_ms := replica.next_ms()) is not None and next_ms < at_ms:
            replica.advance(next_ms)
            look(next_ms)
        replica.advance(at_ms)
        look(at_ms)
        jobs.append(asked_job(key, asked))
        replica.submit(jobs[-1], at_ms)
    while (next_ms := replica.next_ms()) is not None:
        replica.advance(next_ms)
        look(next_ms)
    return jobs


def submitted(replica: SimulatedReplica, history: Sequence[Asked]) -> float:
    """Everything asked for, and when the last of it was."""
    at_ms = 0.0
    for key, asked in enumerate(history):
        at_ms += asked.after_ms
        replica.advance(at_ms)
        replica.submit(asked_job(key, asked), at_ms)
    return at_ms


def asked_job(key: int, asked: Asked) -> Job:
    node, block_ids = 1, []
    for turn in asked.path:
        node = 2 * node + turn
        block_ids.append(node)
    return a_job(key, asked.domain, block_ids, 4 * len(block_ids) - asked.spare_tokens, asked.output_tokens)
