"""While names rotate, each holder is found in the one epoch that its page is in."""

import struct
from collections.abc import Sequence
from random import Random

import pytest

from kvplane.directory import Changes, HolderId, Holdings, Level, Prefix, Segment, domain_key
from kvplane.directory.epochs import EpochHoldings, NameEpochs

BLOCK = 2
KEY, OTHER = (domain_key(salt, "m", "", BLOCK) for salt in ("ab" * 32, "cd" * 32))


def prompt(segments: Sequence[Segment] = (Segment(KEY, 99),), blocks: int = 8) -> Prefix:
    return Prefix(struct.pack(f"<{blocks * BLOCK + 1}I", *range(blocks * BLOCK + 1)), BLOCK, segments)


def hold(table: Holdings, holder: str, depths: Sequence[int], epoch: int) -> None:
    """Have a holder hold so many leading blocks of the prompt in gpu, then so many in cpu, then in disk."""
    prefix = prompt([Segment(KEY.in_epoch(epoch), 99)])
    for level, low, high in zip((Level.GPU, Level.CPU, Level.DISK), (0, *depths[:2]), depths, strict=True):
        names = [prefix.name(depth) for depth in range(low + 1, high + 1)]
        table.apply(HolderId(holder), [Changes(KEY.tag, level, struct.pack(f"<{len(names)}Q", *names))])


def test_holders_of_both_epochs_are_found_and_the_deepest_of_all_stands_first() -> None:
    table = EpochHoldings()
    table.epochs = NameEpochs(present=1, ending=0)
    hold(table, "old", [3, 3, 5], epoch=0)
    hold(table, "new", [4, 4, 4], epoch=1)

    found = table.find(prompt())

    assert found.table() == {"old": (3, 3, 5), "new": (4, 4, 4)}
    assert [run.blocks for run in found.runs[Level.DISK]] == [5, 4]


def test_without_a_rotation_only_names_of_the_present_epoch_count() -> None:
    table = EpochHoldings()
    hold(table, "old", [3, 3, 5], epoch=0)
    hold(table, "new", [4, 4, 4], epoch=1)
    before = table.find(prompt()).table()
    table.epochs = NameEpochs(present=1)

    assert before == {"old": (3, 3, 5)}
    assert table.find(prompt()).table() == {"new": (4, 4, 4)}


def test_whoever_has_names_of_both_has_the_deeper_extent_at_each_level() -> None:
    table = EpochHoldings()
    table.epochs = NameEpochs(1, 0)
    hold(table, "a", [2, 2, 6], epoch=0)
    hold(table, "a", [3, 4, 4], epoch=1)

    assert table.find(prompt()).table() == {"a": (3, 4, 6)}
    assert table.find(prompt()).array()[0].tolist() == [3, 4, 6]


def test_a_prompt_of_two_segments_is_found_in_the_epoch_of_its_page() -> None:
    table = EpochHoldings()
    table.epochs = NameEpochs(1, 0)
    prefix = prompt([Segment(OTHER.in_epoch(1), 2), Segment(KEY.in_epoch(1), 99)])
    for tag, depths in ((OTHER.tag, (1, 2)), (KEY.tag, (3, 4, 5))):
        names = struct.pack(f"<{len(depths)}Q", *map(prefix.name, depths))
        table.apply(HolderId("a"), [Changes(tag, Level.GPU, names)])

    assert table.find(prompt([Segment(OTHER, 2), Segment(KEY, 99)])).table() == {"a": (5, 5, 5)}


@pytest.mark.parametrize("k", [1, 2, 4])
def test_of_the_best_few_all_is_told_and_of_the_others_a_bound(k: int) -> None:
    table = EpochHoldings()
    table.epochs = NameEpochs(1, 0)
    extents = {f"r{number}": number // 2 + 1 for number in range(14)}
    for number, (holder, depth) in enumerate(extents.items()):
        hold(table, holder, [depth] * 3, epoch=number % 2)

    found = table.find(prompt(), k)

    told = {holder: depths[0] for holder, depths in found.table().items()}
    assert told.items() <= extents.items()
    assert len(told) >= k
    assert max(extents[holder] for holder in extents if holder not in told) <= found.bound < max(told.values())


@pytest.mark.parametrize("seed", range(30))
def test_whatever_epoch_each_page_is_in_the_answer_is_that_of_one_epoch(seed: int) -> None:
    chance, plain, rotating = Random(seed), Holdings(), EpochHoldings()
    rotating.epochs = NameEpochs(present=5, ending=4)
    for number in range(20):
        depths = sorted(chance.choices(range(9), k=3))
        hold(plain, f"r{number}", depths, epoch=0)
        hold(rotating, f"r{number}", depths, epoch=chance.choice((4, 5)))

    expected, found = plain.find(prompt()), rotating.find(prompt())

    assert found.table() == expected.table()
    assert found.runs == expected.runs
    assert [blocks for blocks, _ in found.ends] == sorted({blocks for blocks, _ in found.ends}, reverse=True)
