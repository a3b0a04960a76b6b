"""What goes out in one batch: all the changes there are, but never more than readers should take in at once."""

from collections.abc import Iterable, Iterator

import msgspec

from ..directory import Changes

MOST_NAMES = 64 << 10

_NAME_BYTES = 8


def parts(changes: Iterable[Changes]) -> Iterator[tuple[Changes, ...]]:
    """The same changes in the same order, in parts of at most `MOST_NAMES` names; one part at least."""
    part: list[Changes] = []
    filled, room = 0, MOST_NAMES * _NAME_BYTES
    for change in changes:
        for at in range(0, len(change.names), room):
            piece = msgspec.structs.replace(change, names=change.names[at : at + room])
            if filled + len(piece.names) > room:
                yield tuple(part)
                part, filled = [], 0
            part.append(piece)
            filled += len(piece.names)
    yield tuple(part)
