"""Two holdings agree in their digests exactly when they hold the same names at the same levels."""

import random
from array import array

from kvplane.directory import Level
from kvplane.directory.digest import DIGEST_BYTES, Digest

CHANCE = random.Random(1)
NAMES = [CHANCE.getrandbits(60) for _ in range(500)]


def packed(names: list[int]) -> bytes:
    return array("Q", names).tobytes()


def digest_of(names: list[int], level: Level = Level.GPU) -> bytes:
    digest = Digest()
    digest.add(level, packed(names))
    return bytes(digest)


def test_order_and_grouping_do_not_matter() -> None:
    digest = Digest()
    for name in reversed(NAMES):
        digest.add(Level.GPU, packed([name]))

    assert bytes(digest) == digest_of(NAMES)
    assert len(bytes(digest)) == DIGEST_BYTES


def test_what_came_and_went_leaves_no_trace() -> None:
    digest = Digest()
    digest.add(Level.CPU, packed(NAMES))
    digest.remove(Level.CPU, packed(NAMES[:250]))
    digest.remove(Level.CPU, packed(NAMES[250:]))

    assert bytes(digest) == bytes(Digest()) == bytes(DIGEST_BYTES)


def test_one_name_more_less_other_or_at_another_level_shows() -> None:
    others = [
        digest_of(NAMES[1:]),
        digest_of([*NAMES, 7]),
        digest_of([NAMES[0] ^ 1, *NAMES[1:]]),
        digest_of(NAMES, Level.CPU),
        digest_of([NAMES[0] + 1, NAMES[1] - 1, *NAMES[2:]]),
    ]

    assert len({digest_of(NAMES), *others}) == 6


def test_no_level_adds_nothing() -> None:
    assert digest_of(NAMES, Level.NONE) == bytes(DIGEST_BYTES)
