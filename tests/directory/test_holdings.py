"""The table answers exactly, for all holders at every level, and asks for few names."""

import random
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from kvplane.directory import (
    LEVELS,
    Changes,
    DomainKey,
    HolderId,
    Holdings,
    Level,
    Prefix,
    Segment,
    domain_key,
    holder_id,
)

ONE, TWO = holder_id("one"), holder_id("two")


@dataclass(frozen=True)
class CountingPrefix(Prefix):
    """A prefix that notes which of its names were asked for."""

    asked: list[int] = field(default_factory=list)

    def name(self, depth: int) -> int:
        self.asked.append(depth)
        return Prefix.name(self, depth)


def prompt(key: DomainKey, blocks: int, first: int = 0) -> CountingPrefix:
    words = struct.pack(f"<{4 * blocks + 1}I", *range(first, first + 4 * blocks + 1))
    return CountingPrefix(words, 4, [Segment(key, 1 << 30)])


def changes(prefix: Prefix, depths: Sequence[int], level: Level) -> Changes:
    names = array("Q", [Prefix.name(prefix, depth) for depth in depths])
    return Changes(prefix.segments[0].key.tag, level, names.tobytes())


def test_an_empty_table_knows_of_no_overlap(key: DomainKey) -> None:
    assert Holdings().find(prompt(key, 8)).extents(ONE) == (0, 0, 0)


def test_a_prompt_of_one_block_or_less_overlaps_with_nothing(key: DomainKey) -> None:
    table = Holdings()
    table.apply(ONE, [changes(prompt(key, 8), range(1, 9), Level.GPU)])

    assert table.find(prompt(key, 0)).extents(ONE) == (0, 0, 0)


def test_each_level_is_a_union_with_those_before_it(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)

    table.apply(ONE, [changes(prefix, [1, 2], Level.GPU), changes(prefix, [3], Level.CPU)])
    table.apply(ONE, [changes(prefix, [4, 5], Level.DISK)])

    assert table.find(prefix).extents(ONE) == (2, 3, 5)
    assert table.blocks(ONE) == 5


def test_runs_come_deepest_first_and_hold_each_holder_once(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    table.apply(ONE, [changes(prefix, range(1, 4), Level.GPU)])
    table.apply(TWO, [changes(prefix, range(1, 9), Level.GPU)])

    runs = table.find(prefix).runs[Level.GPU]

    assert [(run.blocks, set(run.holders)) for run in runs] == [(8, {TWO}), (3, {ONE})]


def test_a_removal_ends_an_extent(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    table.apply(ONE, [changes(prefix, range(1, 9), Level.GPU)])

    table.apply(ONE, [changes(prefix, range(5, 9), Level.NONE)])

    assert table.find(prefix).extents(ONE) == (4, 4, 4)
    assert table.blocks(ONE) == 4


def test_replacing_leaves_nothing_of_before_and_nothing_of_others_changes(key: DomainKey) -> None:
    table, old, fresh = Holdings(), prompt(key, 8), prompt(key, 8, first=1000)
    for holder in (ONE, TWO):
        table.apply(holder, [changes(old, range(1, 9), Level.GPU)])

    table.replace(ONE, [changes(fresh, range(1, 4), Level.GPU)])

    assert table.find(old).extents(ONE) == (0, 0, 0)
    assert table.find(old).extents(TWO) == (8, 8, 8)
    assert table.find(fresh).extents(ONE) == (3, 3, 3)
    assert table.blocks(ONE) == 3


def test_the_forgotten_leave_no_entry_behind(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    names = [holder_id(f"r{number}") for number in range(9)]
    for holder in names:
        table.apply(holder, [changes(prefix, range(1, 9), Level.GPU)])

    for holder in names:
        table.forget(holder)
        assert table.find(prefix).extents(holder) == (0, 0, 0)
    for _ in range(9):
        table.replace(ONE, [changes(prefix, [1], Level.GPU)])

    assert table.holders() == {ONE}
    assert len(table._table) <= 8


def test_a_look_up_asks_for_about_log_depth_names_for_each_distinct_extent(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 1024)
    for number in range(100):
        table.apply(holder_id(f"r{number}"), [changes(prefix, range(1, 701 if number % 2 else 301), Level.GPU)])

    found = table.find(prefix)

    assert found.extents(holder_id("r1")) == (700, 700, 700)
    assert found.extents(holder_id("r0")) == (300, 300, 300)
    assert len(prefix.asked) <= 2 * 10 + 1


def test_a_page_that_is_not_closed_gets_an_answer_within_what_it_claims(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    table.apply(ONE, [changes(prefix, [2, 5, 8], Level.GPU), changes(prefix, [1, 3], Level.DISK)])

    gpu, cpu, disk = table.find(prefix).extents(ONE)

    assert 0 <= gpu <= cpu <= disk <= 8


def test_two_domains_share_no_overlap(key: DomainKey) -> None:
    table, theirs = Holdings(), prompt(domain_key("cd" * 32, "model", "", 4), 8)
    table.apply(ONE, [changes(prompt(key, 8), range(1, 9), Level.GPU)])

    assert table.find(theirs).extents(ONE) == (0, 0, 0)
    assert table.find(prompt(key, 8)).extents(ONE) == (8, 8, 8)


@pytest.mark.parametrize("seed", range(10))
def test_it_answers_what_a_naive_oracle_answers(key: DomainKey, seed: int) -> None:
    chance = random.Random(seed)
    table, oracle = Holdings(), dict[HolderId, dict[int, Level]]()
    prompts = [prompt(key, chance.randrange(1, 40), first=chance.choice([0, 1000])) for _ in range(6)]
    for _ in range(60):
        holder, prefix = holder_id(f"r{chance.randrange(12)}"), chance.choice(prompts)
        closed = _closed_levels(chance, prefix)
        match chance.randrange(6):
            case 0:
                table.forget(holder)
                oracle.pop(holder, None)
            case 1:
                table.replace(holder, _spoken(prefix, closed))
                oracle[holder] = {Prefix.name(prefix, depth): level for depth, level in closed.items() if level}
            case _:
                # Only whole trees are closed under prefixes, so a holder keeps to one of the two prompts.
                table.replace(holder, [])
                table.apply(holder, _spoken(prefix, closed))
                oracle[holder] = {Prefix.name(prefix, depth): level for depth, level in closed.items() if level}
        asked = chance.choice(prompts)
        found = table.find(asked)

        assert {holder: found.extents(holder) for holder in oracle} == _extents(oracle, asked)
        assert {holder: table.blocks(holder) for holder in oracle} == {held: len(oracle[held]) for held in oracle}
        assert table.holders() == oracle.keys()


def _closed_levels(chance: random.Random, prefix: Prefix) -> dict[int, Level]:
    """Levels that never come nearer with depth."""
    bounds = sorted(chance.randrange(prefix.blocks + 1) for _ in LEVELS)
    return {
        depth: next((level for level, bound in zip(LEVELS, bounds, strict=True) if depth <= bound), Level.NONE)
        for depth in range(1, prefix.blocks + 1)
    }


def _spoken(prefix: Prefix, levels: Mapping[int, Level]) -> list[Changes]:
    return [
        changes(prefix, [depth for depth, at in levels.items() if at == level], level)
        for level in (*LEVELS, Level.NONE)
    ]


def _extents(oracle: Mapping[HolderId, Mapping[int, Level]], prefix: Prefix) -> dict[HolderId, tuple[int, int, int]]:
    found = {}
    for holder, held in oracle.items():
        extents = []
        for level in LEVELS:
            depth = 0
            while depth < prefix.blocks and 1 <= held.get(Prefix.name(prefix, depth + 1), Level.NONE) <= level:
                depth += 1
            extents.append(depth)
        found[holder] = (extents[0], extents[1], extents[2])
    return found
