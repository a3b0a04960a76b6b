"""With sliding windows, an extent ends where generation can really resume."""

import random
import struct
from array import array
from collections.abc import Sequence

import pytest

from kvplane.directory import Changes, DomainKey, Holdings, Level, Prefix, Segment, holder_id

HYBRID, PLAIN = holder_id("hybrid"), holder_id("plain")


def prompt(key: DomainKey, blocks: int) -> Prefix:
    return Prefix(struct.pack(f"<{4 * blocks + 1}I", *range(4 * blocks + 1)), 4, [Segment(key, 1 << 30)])


def stored(prefix: Prefix, depths: Sequence[int], level: Level, windows: Level | None = None) -> Changes:
    names = array("Q", [prefix.name(depth) for depth in depths]).tobytes()
    return Changes(prefix.segments[0].key.tag, level, names, None if windows is None else int(windows))


def test_an_extent_is_the_deepest_depth_whose_windows_stand(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 100)
    table.apply(HYBRID, [stored(prefix, range(1, 91), Level.GPU, Level.NONE)])
    table.apply(HYBRID, [stored(prefix, [10, 40], Level.GPU, Level.GPU)])
    table.apply(PLAIN, [stored(prefix, range(1, 71), Level.GPU)])

    assert table.find(prefix).table() == {HYBRID: (40, 40, 40), PLAIN: (70, 70, 70)}
    assert table.find(prefix, k=1).table() == {HYBRID: (40, 40, 40), PLAIN: (70, 70, 70)}


def test_windows_that_left_end_the_hit_and_windows_that_come_back_restore_it(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 20)
    table.apply(HYBRID, [stored(prefix, range(1, 21), Level.GPU, Level.GPU)])

    table.apply(HYBRID, [stored(prefix, range(6, 21), Level.GPU, Level.NONE)])
    without = table.find(prefix).extents(HYBRID)
    table.apply(HYBRID, [stored(prefix, range(1, 21), Level.GPU, Level.NONE)])
    nowhere = table.find(prefix).extents(HYBRID)
    table.apply(HYBRID, [stored(prefix, [20], Level.GPU, Level.GPU)])

    assert (without, nowhere, table.find(prefix).extents(HYBRID)) == ((5, 5, 5), (0, 0, 0), (20, 20, 20))


def test_windows_in_a_further_tier_are_usable_from_there(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 20)
    table.apply(HYBRID, [stored(prefix, range(1, 21), Level.GPU, Level.NONE)])
    table.apply(HYBRID, [stored(prefix, [4], Level.GPU, Level.GPU), stored(prefix, [16], Level.GPU, Level.CPU)])

    assert table.find(prefix).extents(HYBRID) == (4, 16, 16)


def test_the_removed_and_the_forgotten_leave_nothing_of_their_windows(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 20)
    table.apply(HYBRID, [stored(prefix, range(1, 21), Level.GPU, Level.NONE)])
    table.apply(PLAIN, [stored(prefix, range(1, 11), Level.GPU, Level.NONE)])

    table.apply(PLAIN, [stored(prefix, range(1, 11), Level.NONE)])
    table.apply(PLAIN, [stored(prefix, range(1, 11), Level.GPU)])
    table.forget(HYBRID)
    while table.sweep(100):
        pass

    assert table.find(prefix, k=1).table() == {PLAIN: (10, 10, 10)}
    assert not table._lacking


@pytest.mark.parametrize("seed", range(20))
def test_it_answers_what_looking_at_every_depth_answers(key: DomainKey, seed: int) -> None:
    chance = random.Random(seed)
    table, prefix = Holdings(), prompt(key, 80)
    expected = {}
    for number in range(6):
        holder, extent = holder_id(f"r{number}"), chance.randrange(81)
        windows = sorted(chance.sample(range(1, 81), chance.randrange(5)))
        table.apply(holder, [stored(prefix, range(1, extent + 1), Level.GPU, Level.NONE)])
        table.apply(holder, [stored(prefix, [at for at in windows if at <= extent], Level.GPU, Level.GPU)])
        expected[holder] = max((at for at in windows if at <= extent), default=0)

    found = table.find(prefix)

    assert {holder: found.extents(holder)[0] for holder in expected} == expected
