"""Counts by level are packed without running into one another."""

import pytest

from kvplane.directory.counts import ALL, GONE, ONE, nearest


@pytest.mark.parametrize(
    ("counts", "level"),
    [(0, GONE), (ONE[1], 1), (ONE[2], 2), (ONE[3], 3), (ONE[3] + ONE[2], 2), (ONE[3] + ONE[1], 1), (ALL[2], 2)],
)
def test_the_nearest_level_that_is_not_empty_counts(counts: int, level: int) -> None:
    assert nearest(counts) == level


def test_what_a_level_counts_shows_in_no_other() -> None:
    many = 1_000_000_000

    for level in (1, 2, 3):
        assert [bool(many * ONE[level] & ALL[other]) for other in (1, 2, 3)] == [other == level for other in (1, 2, 3)]
