"""A domain's names stand where their nearest block does, and are told once."""

import struct

from kvplane.directory import DomainKey, Level
from kvplane.directory.counts import GONE
from kvplane.directory.names import Moved, Names, Standing


def test_a_domain_with_news_puts_itself_on_the_list_once(key: DomainKey) -> None:
    changed: list[Names] = []
    names = Names(key, changed)

    names.add([1, 2], 1)
    names.move(1, 1, 2)
    names.clear()

    assert changed == [names]


def test_a_name_moves_from_where_it_was_told_to_where_it_stands(key: DomainKey) -> None:
    names = Names(key, [])
    names.add([1, 2], 1)
    names.tell()

    names.move(1, 1, 2)
    names.move(1, 2, 3)
    names.move(2, 1, GONE)

    assert sorted(names.moved()) == [
        Moved(Level.GPU, Standing(Level.NONE, struct.pack("<Q", 2))),
        Moved(Level.GPU, Standing(Level.DISK, struct.pack("<Q", 1))),
    ]
    assert names.moved() == names.tell()
    assert names.tell() == []
    assert names.usable == len(names._counts) == 1


def test_the_nearest_of_the_blocks_behind_a_name_counts(key: DomainKey) -> None:
    names = Names(key, [])
    names.add([1], 3)
    names.add([1], 1)
    near = names.holding()
    names.move(1, 1, GONE)

    assert near == [Standing(Level.GPU, struct.pack("<Q", 1))]
    assert names.holding() == [Standing(Level.DISK, struct.pack("<Q", 1))]
    assert names.usable == 1


def test_names_that_are_cleared_are_told_the_deepest_first(key: DomainKey) -> None:
    names = Names(key, [])
    names.add([1, 2, 3], 1)
    names.tell()

    names.clear()

    assert names.tell() == [Moved(Level.GPU, Standing(Level.NONE, struct.pack("<3Q", 3, 2, 1)))]
    assert names.holding() == []
