"""The workload is what the benchmarks say that it is."""

from itertools import pairwise
from statistics import median

import pytest

from kvplane.tests.bench.forest import Forest, Stretch, fresh, last_quarter, placed

FOREST = Forest(replicas=64, blocks=30_000)


def owners(stretches: list[Stretch]) -> dict[int, set[int]]:
    """Who holds the block of each name."""
    return {name: set(stretch.replicas) for stretch in stretches for name in stretch.names}


def test_a_forest_is_the_same_for_the_same_seed() -> None:
    first, again = (list(Forest(8, 2000, seed=5).stretches()) for _ in range(2))
    other = list(Forest(8, 2000, seed=6).stretches())

    assert first == again
    assert not owners(first).keys() & owners(other).keys()


@pytest.mark.parametrize("replicas", [8, 64, 256])
def test_holders_a_chain_have_a_median_of_three_and_all_hold_the_root(replicas: int) -> None:
    stretches = list(Forest(replicas, 50_000).stretches())
    holders = [len(stretch.replicas) for stretch in stretches]

    assert holders[0] == replicas
    assert holders[1] == replicas
    assert holders[1:] == sorted(holders[1:], reverse=True)
    assert median(holders) == 3
    assert 50_000 <= placed(stretches) < 53_000


def test_whoever_holds_a_chain_holds_the_chain_before_it() -> None:
    stretches = list(FOREST.stretches())
    held = owners(stretches)

    assert all(set(one.replicas) <= held[one.parent] for one in stretches if one.parent is not None)


def test_without_its_last_quarter_a_forest_is_still_closed() -> None:
    stretches = list(FOREST.stretches())
    last = last_quarter(stretches)
    gone = {name for stretch in last for name in stretch.names}

    assert all(one.parent not in gone for one in stretches if one not in last)
    assert placed(last) == pytest.approx(placed(stretches) / 4, rel=0.05)


def test_every_replica_holds_about_as_much() -> None:
    load = [0] * FOREST.replicas
    for stretch in FOREST.stretches():
        for replica in stretch.replicas:
            load[replica] += len(stretch.names)

    assert max(load) < 3 * min(load)


@pytest.mark.parametrize(("cached", "extents"), [(50, 8), (95, 8), (95, 64)])
def test_a_prompt_has_the_distinct_extents_that_are_asked_for(cached: int, extents: int) -> None:
    prompt = FOREST.prompt(4096, cached, extents, number=0)

    assert prompt is not None
    assert len(set(prompt.extents.values())) == extents
    assert len(prompt.extents) == FOREST.replicas
    assert max(prompt.extents.values()) == 255 * cached // 100
    assert len(prompt.words) == 4 * len(prompt.token_ids) == 4 * 4096


def test_three_replicas_hold_all_that_is_cached() -> None:
    prompt = FOREST.prompt(4096, 95, 8, number=0)

    assert prompt is not None
    assert list(prompt.extents.values()).count(242) == 3


def test_what_a_prompt_needs_makes_its_extents() -> None:
    prompt = FOREST.prompt(4096, 95, 8, number=3)

    assert prompt is not None
    root = next(FOREST.stretches())
    held = dict.fromkeys(range(FOREST.replicas), len(root.names))
    for stretch in prompt.stretches:
        for replica in stretch.replicas:
            held[replica] += len(stretch.names)
    assert held == prompt.extents
    assert prompt.stretches[0].parent == root.names[-1]
    assert all(later.parent == before.names[-1] for before, later in pairwise(prompt.stretches))


def test_with_one_extent_nobody_else_holds_anything() -> None:
    prompt = FOREST.prompt(512, 95, 1, number=0)

    assert prompt is not None
    assert sorted(prompt.extents.values()) == [29, 29, 29]


def test_nothing_cached_is_held_by_nobody() -> None:
    prompt = FOREST.prompt(512, 0, 0, number=0)

    assert prompt is not None
    assert (prompt.extents, prompt.stretches) == ({}, [])


@pytest.mark.parametrize(("tokens", "cached", "extents"), [(512, 95, 64), (4096, 95, 65), (4096, 0, 1), (4096, 95, 0)])
def test_what_cannot_be_is_not_made_up(tokens: int, cached: int, extents: int) -> None:
    assert FOREST.prompt(tokens, cached, extents, number=0) is None


def test_prompts_and_fresh_chains_share_no_block_with_the_forest_or_each_other() -> None:
    names = [name for stretch in FOREST.stretches() for name in stretch.names]
    for number in range(4):
        prompt = FOREST.prompt(4096, 95, 8, number)
        assert prompt is not None
        names += [name for stretch in prompt.stretches for name in stretch.names]
        names += fresh(number, 64).names

    assert len(set(names)) == len(names)
