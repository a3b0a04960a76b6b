"""The table answers exactly, for all holders at every level, and asks for few names."""

import random
import struct
from array import array
from collections.abc import Mapping, Sequence

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


def prompt(key: DomainKey, blocks: int, first: int = 0) -> Prefix:
    words = struct.pack(f"<{4 * blocks + 1}I", *range(first, first + 4 * blocks + 1))
    return Prefix(words, 4, [Segment(key, 1 << 30)])


def changes(prefix: Prefix, depths: Sequence[int], level: Level) -> Changes:
    names = array("Q", [prefix.name(depth) for depth in depths])
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


def test_what_the_forgotten_leave_is_freed_in_small_steps(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 100)
    table.apply(ONE, [changes(prefix, range(1, 101), Level.GPU)])
    table.apply(TWO, [changes(prefix, range(1, 51), Level.GPU)])

    table.forget(ONE)
    gone = table.find(prefix).table()
    steps = [table.sweep(10) for _ in range(11)]
    table.apply(holder_id("three"), [changes(prefix, [1], Level.GPU)])

    assert gone == {TWO: (50, 50, 50)}
    assert steps == [True] * 10 + [False]
    assert sum(table.tally().values()) == 51
    assert table.find(prefix).table() == {TWO: (50, 50, 50), "three": (1, 1, 1)}


def test_a_name_that_is_written_during_a_sweep_is_kept(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 100)
    table.apply(ONE, [changes(prefix, range(1, 101), Level.GPU)])
    table.forget(ONE)

    table.sweep(30)
    table.apply(TWO, [changes(prefix, range(1, 61), Level.GPU)])
    table.apply(TWO, [changes(prefix, range(21, 61), Level.NONE)])
    while table.sweep(30):
        pass

    assert table.find(prefix).table() == {TWO: (20, 20, 20)}
    assert table.tally() == {(TWO, key.tag, Level.GPU): 20}


def test_a_name_that_vanishes_during_a_sweep_is_passed_over(key: DomainKey) -> None:
    table, prefix, other = Holdings(), prompt(key, 8), prompt(key, 50, first=1000)
    table.apply(TWO, [changes(other, range(1, 51), Level.GPU)])
    table.apply(ONE, [changes(prefix, range(1, 9), Level.GPU)])
    table.forget(ONE)

    table.sweep(10)
    table.apply(TWO, [changes(other, range(1, 51), Level.NONE)])
    while table.sweep(10):
        pass

    assert table.bytes == 0


def test_a_name_that_one_change_mentions_twice_counts_once(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)

    table.apply(ONE, [changes(prefix, [1, 2, 2, 3, 1], Level.GPU)])

    assert table.blocks(ONE) == 3
    assert table.digest(ONE) == table.recount(ONE)


def test_a_run_of_many_holders_names_each_of_them(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    many = [holder_id(f"r{number}") for number in range(40)]
    for number, holder in enumerate(many):
        table.apply(holder, [changes(prefix, range(1, 9), Level.CPU if number % 3 else Level.GPU)])

    assert table.find(prefix).table() == {
        holder: (0, 8, 8) if number % 3 else (8, 8, 8) for number, holder in enumerate(many)
    }
    assert table.find(prefix).runs[Level.GPU][0].holders == set(many[::3])
    assert table.find(prefix).runs[Level.CPU][0].holders == set(many)


def test_slots_do_not_pile_up_where_nobody_sweeps(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)

    for number in range(1000):
        table.apply(holder_id(f"r{number}"), [changes(prefix, range(1, 9), Level.GPU)])
        table.forget(holder_id(f"r{number}"))
    table.apply(ONE, [changes(prefix, [1], Level.GPU)])

    assert len(table.find(prefix).slots) < 100


def test_a_draft_is_seen_once_it_is_installed_and_never_if_discarded(key: DomainKey) -> None:
    table, old, fresh = Holdings(), prompt(key, 8), prompt(key, 8, first=1000)
    table.apply(ONE, [changes(old, range(1, 9), Level.GPU)])

    lost, draft = table.draft(), table.draft()
    lost.apply([changes(fresh, range(1, 9), Level.GPU)])
    table.discard(lost)
    for depth in range(1, 9):
        draft.apply([changes(fresh, [depth], Level.GPU)])
        assert (table.find(old).extents(ONE), table.find(fresh).table()) == ((8, 8, 8), {})
    table.install(ONE, draft)
    table.discard(draft)
    while table.sweep(100):
        pass

    assert (table.find(old).table(), table.find(fresh).table()) == ({}, {ONE: (8, 8, 8)})
    assert table.tally() == {(ONE, key.tag, Level.GPU): 8}


def test_its_digest_is_of_what_stands_in_the_table_however_it_came_there(key: DomainKey) -> None:
    step, whole, prefix = Holdings(), Holdings(), prompt(key, 40)
    step.apply(TWO, [changes(prefix, range(1, 41), Level.GPU)])
    step.apply(ONE, [changes(prefix, range(1, 31), Level.GPU), changes(prefix, [5, 5, 5], Level.GPU)])
    step.apply(ONE, [changes(prefix, range(11, 41), Level.CPU), changes(prefix, range(36, 41), Level.NONE)])
    step.apply(ONE, [changes(prefix, range(30, 34), Level.DISK)])

    final = {Level.GPU: [*range(1, 11)], Level.CPU: [*range(11, 30), 34, 35], Level.DISK: [*range(30, 34)]}
    whole.replace(ONE, [changes(prefix, depths, level) for level, depths in final.items()])

    assert step.digest(ONE) == step.recount(ONE) == whole.digest(ONE)
    assert step.digest(TWO) == step.recount(TWO) != step.digest(ONE)
    assert step.counts(ONE) == {level: len(depths) for level, depths in final.items()}
    assert step.tally()[ONE, key.tag, Level.CPU] == 21
    assert step.digest(holder_id("nobody")) == step.recount(holder_id("nobody")) == bytes(48)


def test_a_domain_that_nobody_holds_leaves_no_table(key: DomainKey) -> None:
    table, prefix = Holdings(), prompt(key, 8)
    table.apply(ONE, [changes(prefix, range(1, 9), Level.GPU)])

    table.apply(ONE, [changes(prefix, range(1, 9), Level.NONE)])

    assert table.bytes == 0


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
                oracle[holder] = {prefix.name(depth): level for depth, level in closed.items() if level}
            case _:
                # Only whole trees are closed under prefixes, so a holder keeps to one of the two prompts.
                table.replace(holder, [])
                table.apply(holder, _spoken(prefix, closed))
                oracle[holder] = {prefix.name(depth): level for depth, level in closed.items() if level}
        asked = chance.choice(prompts)
        found = table.find(asked)

        k = chance.randrange(1, 5)
        best = table.find(asked, k)
        extents = _extents(oracle, asked)

        assert {holder: found.extents(holder) for holder in oracle} == extents
        assert best.table().items() <= extents.items()
        assert len(best.table()) >= min(k, sum(disk > 0 for _, _, disk in extents.values()))
        assert all(disk <= best.bound for held, (_, _, disk) in extents.items() if held not in best.table())
        assert {held: table.digest(held) for held in oracle} == {held: table.recount(held) for held in oracle}
        assert {holder: table.blocks(holder) for holder in oracle} == {held: len(oracle[held]) for held in oracle}
        assert {held for held, _, _ in table.tally()} == {held for held in oracle if oracle[held]}
        assert table.resident(key.tag) == sum(map(len, oracle.values()))


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
            while depth < prefix.blocks and 1 <= held.get(prefix.name(depth + 1), Level.NONE) <= level:
                depth += 1
            extents.append(depth)
        found[holder] = (extents[0], extents[1], extents[2])
    return found
