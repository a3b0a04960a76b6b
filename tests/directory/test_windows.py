"""A hybrid model's hit ends where every group of layers can go on: case by case, and against a naive oracle."""

import random
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest

from kvplane.directory import Closure, DomainKey, Holdings, Prefix, Segment, domain_key, holder_id

Tier = Literal["gpu", "cpu", "disk"]
TIERS: tuple[Tier, ...] = ("gpu", "cpu", "disk")
BLOCK = 4
SALT = "ab" * 32
ONE = holder_id("one")
EVERY = 1 << 30


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", BLOCK)


def words(blocks: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<4I", block, 0, 0, 0) for block in blocks)


def prompt(blocks: Sequence[int]) -> Prefix:
    return Prefix(words(blocks) + words([0]), BLOCK, [Segment(key_of(SALT), 1 << 30)])


class Replica:
    """A closure, and a router's table that is told what changes."""

    def __init__(self) -> None:
        self.closure = Closure(key_of, BLOCK)
        self.table = Holdings()

    def store(self, path: Sequence[int], tier: Tier = "gpu") -> None:
        self.closure.store(path, None, words(path), tier, SALT)

    def extents(self, path: Sequence[int]) -> tuple[int, int, int]:
        self.table.apply(ONE, self.closure.drain())
        return self.table.find(prompt(path)).extents(ONE)

    def extent(self, path: Sequence[int]) -> int:
        return self.extents(path)[0]


def test_a_hit_is_as_deep_as_all_windows_stand_and_no_deeper() -> None:
    replica = Replica()
    replica.closure.store_windows([5, 6, 7, 8], 0, 3, "gpu")
    replica.closure.store_windows([6, 7], 1, 2, "gpu")
    replica.store(range(1, 10))

    assert replica.extent(range(1, 10)) == 7
    assert replica.extent(range(1, 7)) == 0


def test_where_windows_reach_back_to_the_start_fewer_blocks_are_enough() -> None:
    replica = Replica()
    replica.closure.store_windows([1, 2, 4], 0, 3, "gpu")
    replica.closure.store_windows([1, 2, 3, 4], 1, EVERY, "gpu")
    replica.store(range(1, 5))

    assert replica.extent(range(1, 5)) == 2


def test_a_window_that_leaves_ends_the_hits_that_need_it_and_its_return_restores_them() -> None:
    replica = Replica()
    replica.store(range(1, 8))
    replica.closure.store_windows([1, 2, 3, 4, 5, 6, 7], 0, 2, "gpu")
    whole = replica.extent(range(1, 8))
    replica.closure.remove_windows([6], 0, "gpu")
    without = replica.extent(range(1, 8))
    replica.closure.store_windows([6], 0, 2, "gpu")

    assert (whole, without, replica.extent(range(1, 8))) == (7, 5, 7)


def test_copies_are_counted_by_tier_group_and_block() -> None:
    replica = Replica()
    replica.store([1, 2])
    for group in (0, 1):
        replica.closure.store_windows([2, 2], group, 1, "gpu")

    replica.closure.remove_windows([2], 0, "gpu")
    replica.closure.remove_windows([2, 2], 0, "cpu")
    replica.closure.remove_windows([2], 9, "gpu")
    twice = replica.extent([1, 2])
    replica.closure.remove([2], "gpu")
    replica.closure.remove_windows([2], 0, "gpu")
    replica.store([1, 2])

    assert (twice, replica.extent([1, 2])) == (2, 0)


def test_windows_in_a_farther_tier_are_good_from_there() -> None:
    replica = Replica()
    replica.store(range(1, 7))
    replica.closure.store_windows([2, 5], 0, 2, "gpu")
    replica.closure.store_windows([1], 0, 2, "cpu")
    replica.closure.store_windows([4], 0, 2, "disk")

    assert replica.extents(range(1, 7)) == (0, 2, 5)


def test_a_group_that_is_heard_of_late_stands_nowhere_yet() -> None:
    replica = Replica()
    replica.store([1, 2, 3])
    before = replica.extent([1, 2, 3])
    replica.closure.store_windows([], 0, 1, "gpu")
    none = replica.extent([1, 2, 3])
    replica.closure.store_windows([3], 0, 1, "gpu")
    first = replica.extent([1, 2, 3])
    replica.closure.store_windows([], 1, 1, "gpu")

    assert (before, none, first, replica.extent([1, 2, 3])) == (3, 0, 3, 0)


def test_windows_of_blocks_that_are_not_known_count_once_they_are() -> None:
    replica = Replica()
    replica.closure.store_windows([1, 2, 3], 0, 3, "gpu")
    replica.closure.store([2, 3], 1, words([2, 3]), "gpu", None)
    waiting = replica.extent([1, 2, 3])
    replica.store([1])

    assert (waiting, replica.extent([1, 2, 3])) == (0, 3)


def test_a_block_that_leaves_and_returns_finds_its_windows_where_they_are() -> None:
    replica = Replica()
    replica.closure.store_windows([1, 2, 3], 0, 2, "gpu")
    replica.store([1, 2, 3])
    replica.closure.remove([3, 2, 1], "gpu")
    gone = replica.extent([1, 2, 3])
    replica.closure.remove_windows([1], 0, "gpu")
    replica.store([1, 2, 3])

    assert (gone, replica.extent([1, 2, 3])) == (0, 3)
    replica.closure.remove_windows([2], 0, "gpu")
    assert replica.extent([1, 2, 3]) == 0


def test_nothing_stands_once_all_is_cleared() -> None:
    replica = Replica()
    replica.closure.store_windows([1, 2], 0, 1, "gpu")
    replica.store([1, 2])
    whole = replica.extent([1, 2])
    replica.closure.clear()
    replica.store([1, 2])
    at_once = replica.extent([1, 2])
    replica.closure.clear()
    cleared = replica.extent([1, 2])
    replica.store([1, 2])
    later = replica.extent([1, 2])
    replica.closure.store_windows([1], 0, 1, "gpu")

    assert (whole, at_once, cleared, later, replica.extent([1, 2])) == (2, 0, 0, 0, 1)


def test_a_block_does_not_lend_its_windows_to_another_of_the_same_name() -> None:
    replica = Replica()
    replica.store([1])
    replica.closure.store_windows([1], 0, 1, "gpu")
    alone = replica.extent([1])
    replica.closure.remove([1], "gpu")
    replica.closure.store([100], None, words([1]), "gpu", SALT)

    assert (alone, replica.extent([1])) == (1, 0)


def test_a_checkpoint_says_where_windows_stand_before_that_is_drained() -> None:
    replica = Replica()
    replica.closure.store_windows([2], 0, 1, "gpu")
    replica.store([1, 2, 3])

    replica.table.apply(ONE, replica.closure.holding())

    assert replica.table.find(prompt([1, 2, 3])).extents(ONE) == (2, 2, 2)


class Oracle:
    """The definition, word for word."""

    def __init__(self, reaches: Sequence[int]) -> None:
        self.reaches = reaches
        self.copies = Counter[tuple[int, str, int]]()  # group (-1: the chain), tier, block

    def extents(self, path: Sequence[int]) -> tuple[int, ...]:
        return tuple(self._extent(path, TIERS[: level + 1]) for level in range(3))

    def _extent(self, path: Sequence[int], tiers: Sequence[str]) -> int:
        return max(depth for depth in range(len(path) + 1) if self._usable(path[:depth], tiers))

    def _usable(self, path: Sequence[int], tiers: Sequence[str]) -> bool:
        reached = [path[max(0, len(path) - reach) :] for reach in self.reaches]
        groups = [(-1, path), *enumerate(reached)]
        return all(any(self.copies[group, tier, each] for tier in tiers) for group, blocks in groups for each in blocks)


@pytest.mark.parametrize("seed", range(20))
def test_extents_are_those_of_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    reaches = [rng.choice([1, 2, 3, 5, EVERY]) for _ in range(rng.randint(1, 3))]
    replica, oracle = Replica(), Oracle(reaches)
    paths = [[1, *range(start, start + 7)] for start in (10, 20)] + [[1, 10, 11, *range(30, 34)]]
    for number, reach in enumerate(reaches):
        replica.closure.store_windows([], number, reach, "gpu")
    for _ in range(150):
        for _ in range(rng.randint(1, 4)):
            step(rng, replica.closure, oracle, rng.choice(paths))
        path = rng.choice(paths)

        assert replica.extents(path) == oracle.extents(path)
    anew = Holdings()
    anew.apply(ONE, replica.closure.holding())
    successor = Closure(key_of, BLOCK)
    for _ in successor.take_over(replica.closure):
        pass
    taken = Holdings()
    taken.apply(ONE, successor.drain())
    for path in paths:
        assert anew.find(prompt(path)).extents(ONE) == oracle.extents(path)
        assert taken.find(prompt(path)).extents(ONE) == oracle.extents(path)


def step(rng: random.Random, tree: Closure, oracle: Oracle, path: Sequence[int]) -> None:
    """Store or remove some blocks of a path in one tier, in the chain or in another group."""
    tier = rng.choices(TIERS, (6, 2, 1))[0]
    group = rng.randrange(-1, len(oracle.reaches))
    begin = rng.randrange(len(path))
    blocks = path[begin : begin + rng.randint(1, 6)]
    if rng.random() < 0.6:
        oracle.copies.update((group, tier, block) for block in blocks)
        if group < 0:
            parent = path[begin - 1] if begin else None
            tree.store(blocks, parent, words(blocks), tier, SALT)
        else:
            tree.store_windows(blocks, group, oracle.reaches[group], tier)
        return
    for block in blocks:
        oracle.copies[group, tier, block] -= oracle.copies[group, tier, block] > 0
    if group < 0:
        tree.remove(blocks, tier)
    else:
        tree.remove_windows(blocks, group, tier)
