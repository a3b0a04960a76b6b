"""An overlap as an array says what it says holder by holder."""

from hypothesis import given
from hypothesis import strategies as st

from kvplane.directory import NO_OVERLAP, HolderId, Overlap
from kvplane.directory.ids import LEVELS, Level
from kvplane.directory.masks import BITS, WIDTH

A, B, C = HolderId("a"), HolderId("b"), HolderId("c")
DEPTHS = st.tuples(*[st.integers(0, 9)] * WIDTH).map(sorted)


def overlap(slots: list[HolderId | None], extents: dict[int, tuple[int, int, int]]) -> Overlap:
    """Of the extents of some slots at gpu, cpu and disk, which rise."""
    ends: dict[int, int] = {}
    for number, depths in extents.items():
        for level, depth in zip(LEVELS, depths, strict=True):
            if depth:
                ends[depth] = ends.get(depth, 0) | 1 << number * WIDTH + level - 1
    return Overlap(sorted(ends.items(), reverse=True), tuple(slots))


def test_a_row_is_a_slot_a_column_a_level_and_the_last_row_is_nobodys() -> None:
    found = overlap([A, None, C], {0: (1, 2, 3), 2: (5, 5, 5)})

    assert found.array().tolist() == [[1, 2, 3], [0, 0, 0], [5, 5, 5], [0, 0, 0]]
    assert found.array(16).tolist() == [[16, 32, 48], [0, 0, 0], [80, 80, 80], [0, 0, 0]]
    assert found.table() == {A: (1, 2, 3), C: (5, 5, 5)}
    assert BITS[Level.GPU] == 0b111  # a slot's three bits, gpu the lowest


def test_what_many_end_at_is_read_as_what_few_end_at() -> None:
    slots: list[HolderId | None] = [HolderId(f"r-{number}") for number in range(30)]
    found = overlap(slots, {number: (0, 4, 4) if number % 2 else (7, 7, 7) for number in range(29)})

    assert found.array(2).tolist() == [[14, 14, 14], [0, 8, 8]] * 14 + [[14, 14, 14], [0, 0, 0], [0, 0, 0]]


def test_nothing_is_one_row_of_zeros() -> None:
    assert NO_OVERLAP.array().tolist() == [[0, 0, 0]]


@given(st.lists(DEPTHS, min_size=1, max_size=70))
def test_the_array_says_what_the_table_says(depths: list[list[int]]) -> None:
    slots: list[HolderId | None] = [HolderId(f"r-{number}") for number in range(len(depths))]
    found = overlap(slots, {number: (gpu, cpu, disk) for number, (gpu, cpu, disk) in enumerate(depths)})
    table = found.table()

    rows = [list(table.get(HolderId(f"r-{number}"), (0, 0, 0))) for number in range(len(depths))]
    assert found.array().tolist() == [*rows, [0, 0, 0]]
