"""Caches that no router can beat."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.references import (
    hit_rate,
    infinite_extents,
    infinite_hit_rate,
    pooled_extents,
    pooled_hit_rate,
    reused_tokens,
)
from kvplane.controlplane.replay.trace import Trace, TraceRequest, folded
from kvplane.tests.controlplane.replay.shared_traces import shared_trace


def trace(*prompts: Sequence[int], tenants: str = "", size: int = 10) -> Trace:
    """Prompts of full blocks, one token longer than those: all of them can be reused."""
    return Trace(
        "made",
        size,
        [
            TraceRequest(
                float(at), len(ids) * size + 1, 1, (*folded(ids), (10_000 + at, 1)), tenant=tenants[at : at + 1]
            )
            for at, ids in enumerate(prompts)
        ],
    )


def test_a_cache_without_limit_gives_back_the_leading_blocks_that_were_there() -> None:
    made = trace([1, 2, 3], [1, 2, 4], [1, 5, 3], [1, 2, 3])

    assert infinite_extents(made).tolist() == [0, 2, 1, 3]
    assert infinite_hit_rate(made) == 60 / 124


def test_the_last_token_is_always_computed() -> None:
    twice = Trace("twice", 10, [TraceRequest(0.0, 20, 1, ((0, 2),)), TraceRequest(1.0, 20, 1, ((0, 2),))])

    assert infinite_extents(twice).tolist() == [0, 2]
    assert reused_tokens(twice, infinite_extents(twice)).tolist() == [0, 10]
    assert infinite_hit_rate(twice) == 10 / 40


def test_tenants_share_nothing_unless_told() -> None:
    made = trace([1, 2], [1, 2], [1, 3], tenants="aba")

    assert infinite_extents(made).tolist() == [0, 0, 1]
    assert infinite_extents(made, apart=False).tolist() == [0, 2, 1]
    assert pooled_extents(made, 100).tolist() == [0, 0, 1]
    assert pooled_extents(made, 100, apart=False).tolist() == [0, 2, 1]


def test_a_pool_evicts_the_deepest_block_of_the_oldest_prompt() -> None:
    whole = [TraceRequest(float(at), 31, 1, folded(ids)) for at, ids in enumerate([[1, 2, 3], [7, 8], [1, 2, 3]])]
    made = Trace("made", 10, whole)

    assert pooled_extents(made, 4).tolist() == [0, 0, 2]  # 3 gave way to 8
    assert pooled_extents(made, 3).tolist() == [0, 0, 1]


def test_a_look_up_keeps_what_it_finds_and_comes_before_the_store() -> None:
    ids = [[1], [2], [1], [3], [1], [2]]
    made = Trace("made", 10, [TraceRequest(float(at), 11, 1, folded(each)) for at, each in enumerate(ids)])

    assert pooled_extents(made, 2).tolist() == [0, 0, 1, 0, 1, 0]


def test_of_a_prompt_larger_than_the_pool_the_beginning_stays() -> None:
    made = trace(range(10), range(10))

    assert pooled_extents(made, 4).tolist() == [0, 4]
    assert pooled_hit_rate(made, 4) == 40 / 202


def test_tenants_with_ids_as_large_as_they_come_stay_apart() -> None:
    made = trace([2**62 - 2], [2**62 - 2], [2**62 - 2], tenants="aba")

    assert infinite_extents(made).tolist() == [0, 0, 1]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=25), st.integers(0, 30))
def test_a_larger_pool_is_never_worse_and_no_pool_beats_no_limit(paths: list[list[int]], blocks: int) -> None:
    made = trace(*map(chained, paths))
    smaller, larger = pooled_extents(made, blocks), pooled_extents(made, blocks + 1)

    assert (smaller <= larger).all()
    assert (larger <= infinite_extents(made)).all()
    assert (pooled_extents(made, 10_000) == infinite_extents(made)).all()


def chained(path: Sequence[int]) -> list[int]:
    """An id for each beginning of the path: the path itself in base 4."""
    return [int("1" + "".join(map(str, path[: depth + 1])), 4) for depth in range(len(path))]


@pytest.mark.parametrize(
    "name, percent",
    [
        ("mooncake_conversation_head", 35.2),
        ("toolagent_like_head", 50.3),
        ("mix_dev", 83.1),
        ("sharegpt_dev", 70.4),
        ("servegen_mid", 68.5),
        ("lmcache_agents", 89.7),
        ("tau_airline", 92.8),
        ("azure2023_code", 0.0),
    ],
)
def test_the_evaluation_traces_have_their_published_ceilings(name: str, percent: float) -> None:
    assert 100 * infinite_hit_rate(read_trace(shared_trace(name))) == pytest.approx(percent, abs=0.05)


def test_a_trace_of_long_sessions_has_its_published_ceiling_within_sessions() -> None:
    """What sessions of one tenant share adds 0.16 points."""
    read = read_trace(shared_trace("weka_claude_dev"))
    sessions = Trace(read.name, read.block_tokens, [by_session(each) for each in read.requests])

    assert 100 * infinite_hit_rate(sessions) == pytest.approx(96.43, abs=0.005)


def by_session(request: TraceRequest) -> TraceRequest:
    return TraceRequest(
        request.at_ms, request.prompt_tokens, request.output_tokens, request.ranges, tenant=request.session
    )


def test_a_pool_of_eight_replicas_on_a_conversation_trace() -> None:
    read = read_trace(shared_trace("mooncake_conversation_head"))

    assert 100 * pooled_hit_rate(read, 8 * 2048) == pytest.approx(26.28, abs=0.005)
    assert hit_rate(read, pooled_extents(read, 10**9)) == infinite_hit_rate(read)
