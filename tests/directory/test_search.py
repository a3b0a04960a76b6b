"""A search asks for few names, and answers the same however the prompt is cut into domains."""

import struct
from collections.abc import Sequence

import pytest

from kvplane.directory import DomainKey, Level, Prefix, Segment, domain_key
from kvplane.directory.masks import ALL, every
from kvplane.directory.search import ends_of


class CountingTable(dict[int, int]):
    """Counts how often it is asked."""

    asked = 0

    def get(self, name: int, default: int = 0) -> int:  # type: ignore[override]  # the search gives a default
        self.asked += 1
        return super().get(name, default)


def prompt(segments: Sequence[Segment], blocks: int) -> Prefix:
    return Prefix(struct.pack(f"<{4 * blocks + 1}I", *range(4 * blocks + 1)), 4, segments)


def table_of(prefix: Prefix, extents: Sequence[int]) -> CountingTable:
    """Slot number i holds the first extents[i] blocks in gpu."""
    table = CountingTable()
    for slot, extent in enumerate(extents):
        for depth in range(1, extent + 1):
            name = prefix.name(depth)
            table[name] = table.setdefault(name, 0) | ALL << 3 * slot
    return table


def live(slots: int) -> int:
    return every(Level.GPU, slots) * ALL


def test_it_asks_for_about_log_depth_names_for_each_distinct_extent(key: DomainKey) -> None:
    prefix = prompt([Segment(key, 1 << 30)], 1024)
    table = table_of(prefix, [700 if slot % 2 else 300 for slot in range(100)])

    ends, bound = ends_of(prefix, {key.tag: table}, live(100), None)

    assert [(depth, bits.bit_count()) for depth, bits in ends] == [(700, 150), (300, 150)]
    assert bound == 0
    assert table.asked <= 2 * (10 + 8)


def test_a_prompt_that_nobody_holds_costs_one_name_and_one_that_few_hold_is_not_searched_for_the_others(
    key: DomainKey,
) -> None:
    prefix = prompt([Segment(key, 1 << 30)], 1024)
    nobody, few = CountingTable(), table_of(prefix, [700, 0, 0])

    assert ends_of(prefix, {key.tag: nobody}, live(3), None) == ([], 0)
    assert ends_of(prefix, {key.tag: few}, live(3), None) == ([(700, 0b111)], 0)
    assert (nobody.asked, few.asked) == (1, 1 + 10)


def test_the_best_few_cost_less_than_all_and_the_rest_are_bounded(key: DomainKey) -> None:
    prefix = prompt([Segment(key, 1 << 30)], 1024)
    table = table_of(prefix, [16 * slot for slot in range(1, 61)])

    ends, bound = ends_of(prefix, {key.tag: table}, live(60), 2)

    assert [depth for depth, _ in ends] == [960, 944]
    assert 928 <= bound < 944
    assert table.asked <= 2 * (10 + 8)


def test_the_nearer_tiers_of_the_best_are_followed_to_their_ends_and_no_others(key: DomainKey) -> None:
    prefix = prompt([Segment(key, 1 << 30)], 64)
    table = table_of(prefix, [20, 5, 4])
    for depth in range(21, 61):
        table[prefix.name(depth)] = 0b100  # slot 0, disk
    for depth in range(6, 51):
        table[prefix.name(depth)] = table.get(prefix.name(depth), 0) | 0b110 << 3  # slot 1, cpu

    ends, _ = ends_of(prefix, {key.tag: table}, live(3), 2)

    assert ends == [(60, 0b100), (50, 0b110000), (20, 0b011), (5, 0b001000)]


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 30, 63])
@pytest.mark.parametrize("extents", [[64], [40, 8], [cut + 1 for cut in (0, 6, 7, 8, 29, 62)]])
def test_a_prompt_that_passes_through_two_domains_is_searched_in_both(
    key: DomainKey, cut: int, extents: Sequence[int]
) -> None:
    private = domain_key("cd" * 32, "model", "", 4)
    prefix = prompt([Segment(key, cut), Segment(private, 1 << 30)], 64)
    both = table_of(prefix, extents)
    tables: dict[str, CountingTable] = {key.tag: CountingTable(), private.tag: CountingTable()}
    for depth in range(1, max(extents) + 1):
        name = prefix.name(depth)
        tables[prefix.segment(depth).key.tag][name] = both[name]

    ends, _ = ends_of(prefix, tables, live(len(extents)), None)  # type: ignore[arg-type]  # a plain str for a tag

    assert [depth for depth, _ in ends] == sorted(extents, reverse=True)
