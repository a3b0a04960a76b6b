"""What an honest holder tells is never doubted, however it comes about; what cannot be true is, until it is true."""

from array import array
from random import Random

import pytest

from kvplane.directory import DIGEST_BYTES, Batch, Changes, Checkpoint, Level, Load, holder_id
from kvplane.directory.plausible import ASIDE_S, NEW_BLOCKS_PER_S, Plausibility, new_blocks
from kvplane.workers.parts import MOST_NAMES, parts

ONE, TAG = holder_id("one"), "0" * 16
WHOLE = bytes(DIGEST_BYTES)


class Weighing:
    """Room for ten, at five new ones a second, and a clock that a test sets."""

    def __init__(self, fits: int = 10, new_blocks_per_s: float = 5.0) -> None:
        self.now = 0.0
        self.load = Load(total_blocks=fits)
        self.plausibility = Plausibility(new_blocks_per_s, lambda: self.now)
        self._seq = -1

    def whole(self, gpu: int, blocks: int = 0, epoch: int = 1) -> bool:
        return self.plausibility.weigh(Checkpoint(ONE, epoch, 0, self.load), 0, gpu, max(gpu, blocks))

    def batch(self, gpu: int, blocks: int = 0, new: int = 0, digest: bytes = WHOLE) -> bool:
        return self.plausibility.weigh(Batch(ONE, 1, 1, self.load, digest=digest), new, gpu, max(gpu, blocks))

    def part(self, gpu: int) -> bool:
        return self.batch(gpu, digest=b"")


@pytest.fixture
def weighing() -> Weighing:
    return Weighing()


def names(level: Level, *values: int) -> Changes:
    return Changes(TAG, level, array("Q", values).tobytes())


def test_a_full_gpu_is_plausible_and_one_block_more_is_not_however_many_lie_in_other_tiers(weighing: Weighing) -> None:
    assert (weighing.whole(10, blocks=5000), weighing.whole(11)) == (True, False)
    assert (weighing.plausibility.crowded, weighing.plausibility.hasty) == (1, 0)


def test_a_page_is_aside_until_it_has_added_up_for_five_seconds(weighing: Weighing) -> None:
    seen = []
    for now, gpu in ((0.0, 11), (4.0, 11), (4.1, 10), (8.9, 10), (9.0, 10)):
        weighing.now = now
        seen.append(weighing.batch(gpu))

    assert ASIDE_S == 5.0
    assert seen == [False, False, False, False, True]


def test_parts_may_hold_the_new_and_what_it_replaced_but_never_more(weighing: Weighing) -> None:
    assert [weighing.part(20), weighing.batch(10), weighing.part(21)] == [True, True, False]


def test_a_batch_without_end_is_weighed_as_a_whole(weighing: Weighing) -> None:
    assert [weighing.part(20) for _ in range(65)] == [True] * 64 + [False]


def test_only_a_whole_batch_takes_a_page_up_again(weighing: Weighing) -> None:
    aside = weighing.batch(11)
    weighing.now = 60.0

    assert [aside, weighing.part(10), weighing.batch(10)] == [False, False, True]


def test_new_blocks_may_come_at_once_as_many_as_fit_and_then_as_fast_as_they_are_computed(weighing: Weighing) -> None:
    seen = []
    for now, new in ((0.0, 10), (1.0, 5), (2.0, 6), (2.2, 0)):
        weighing.now = now
        seen.append(weighing.batch(10, new=new))

    assert seen == [True, True, False, False]
    assert (weighing.plausibility.crowded, weighing.plausibility.hasty) == (0, 1)


def test_behind_an_inner_block_that_returns_all_may_return_that_was_there_before(weighing: Weighing) -> None:
    weighing.whole(5, blocks=100)
    gone = weighing.batch(0, new=0)

    assert [gone, weighing.batch(10, blocks=105, new=105), weighing.batch(10, blocks=116, new=6)] == [True, True, False]


def test_what_was_never_paid_for_does_not_raise_what_may_be_owed(weighing: Weighing) -> None:
    seen = [weighing.batch(0, blocks=blocks, new=new) for blocks, new in ((8, 8), (12, 4))]

    assert seen == [True, False]


def test_what_was_paid_for_by_time_may_return_as_well(weighing: Weighing) -> None:
    weighing.batch(0, blocks=8, new=8)
    weighing.now = 2.0  # time for ten
    weighing.batch(0, blocks=8)

    assert weighing.batch(0, blocks=26, new=18)
    assert not weighing.batch(0, blocks=27, new=1)


def test_another_epoch_begins_without_debt(weighing: Weighing) -> None:
    weighing.whole(0, blocks=100)
    weighing.batch(0, blocks=110, new=110)

    assert weighing.whole(0, blocks=1, epoch=2)
    assert weighing.plausibility.weigh(Batch(ONE, 2, 1, weighing.load, digest=WHOLE), 11, 0, 12)
    assert not weighing.plausibility.weigh(Batch(ONE, 2, 2, weighing.load, digest=WHOLE), 1, 0, 13)


@pytest.mark.parametrize("told", [0, 1 << 40])
def test_a_holder_that_tells_no_size_or_a_fantastic_one_has_room_for_what_a_checkpoint_can_say(told: int) -> None:
    weighing = Weighing(told)

    assert [weighing.batch(1 << 23, new=1 << 23), weighing.batch((1 << 23) + 1)] == [True, False]


def test_what_is_new_is_what_was_computed_and_not_what_moves() -> None:
    moved = [names(Level.CPU, 1, 2), names(Level.GPU, 3)]
    replaced = [names(Level.GPU, 4, 5), names(Level.NONE, 1, 2)]
    come_and_gone = [names(Level.NONE, 6)]

    assert [new_blocks(moved, 3, 3), new_blocks(replaced, 3, 3), new_blocks(come_and_gone, 3, 3)] == [0, 2, 1]


def test_an_honest_cache_that_is_full_and_replaced_wholly_in_parts_is_never_doubted() -> None:
    fits, random = MOST_NAMES + 9, Random(5)
    weighing, held, seen = Weighing(fits, NEW_BLOCKS_PER_S), set(range(fits)), []
    weighing.whole(fits)
    for turn in range(1, 5):
        weighing.now += fits / NEW_BLOCKS_PER_S
        come = set(range(turn * fits, (turn + 1) * fits))
        told = [names(Level.GPU, *come), names(Level.NONE, *held)]
        random.shuffle(told)
        *before, last = parts(told)
        for part in (*before, last):
            was = len(held)
            for change in part:
                values = set(array("Q", change.names))
                held = held | values if change.level else held - values
            new, digest = new_blocks(part, was, len(held)), WHOLE if part is last else b""
            seen.append(weighing.batch(len(held), new=new, digest=digest))

    assert len(seen) == 4 * 4
    assert all(seen)
