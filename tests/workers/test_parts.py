"""Changes go out whole and in order, however many they are."""

import struct

from kvplane.directory import Changes
from kvplane.workers.parts import MOST_NAMES, parts


def change(tag: str, level: int, first: int, count: int) -> Changes:
    return Changes(tag * 16, level, struct.pack(f"<{count}Q", *range(first, first + count)))


def test_few_changes_are_one_part_as_they_are() -> None:
    changes = (change("a", 1, 0, 3), change("b", 0, 9, 2))

    assert list(parts(changes)) == [changes]


def test_no_changes_are_one_part_too() -> None:
    assert list(parts(())) == [()]


def test_many_changes_are_parted_and_none_is_lost_or_moved() -> None:
    changes = [change("a", 1, 0, 2 * MOST_NAMES + 5), change("b", 0, 7, MOST_NAMES - 5), change("c", 2, 1, 1)]

    told = list(parts(changes))

    sizes = [sum(len(piece.names) // 8 for piece in part) for part in told]
    assert sizes == [MOST_NAMES, MOST_NAMES, MOST_NAMES, 1]
    for whole in changes:
        pieces = [piece for part in told for piece in part if piece.tag == whole.tag]
        assert b"".join(piece.names for piece in pieces) == whole.names
        assert {piece.level for piece in pieces} == {whole.level}
