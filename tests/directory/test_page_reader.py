"""A page read by one: in order, whole, in slices, doubted when its digest is not met, and never believed by halves."""

import logging
import struct
from array import array
from collections.abc import Sequence

import msgspec
import pytest

from kvplane.directory import (
    DIGEST_BYTES,
    Batch,
    Changes,
    Checkpoint,
    DomainKey,
    Holdings,
    Level,
    Load,
    Prefix,
    Segment,
    holder_id,
    seal,
)
from kvplane.directory.digest import Digest
from kvplane.directory.page_reader import DOUBT_S, SLICE_NAMES, PageReader
from kvplane.directory.plausible import ASIDE_S, Plausibility
from kvplane.directory.wire import Message

ONE = holder_id("one")
TWO = Load(total_blocks=2)
ANY = bytes(DIGEST_BYTES)  # of a whole batch, where whether it is met does not matter
FILL = tuple(range(1, SLICE_NAMES))  # names that no prompt has


class Reading:
    """A reader with a clock that a test sets, and how far it lets a prompt of ten blocks overlap."""

    def __init__(self, key: DomainKey) -> None:
        self.key = key
        self.now = 0.0
        self.derived = 0
        self.table = Holdings()
        plausibility = Plausibility(10.0, lambda: self.now)
        self.reader = PageReader(ONE, self.table, self._mac_key, lambda: self.now, plausibility)
        self._prompt = Prefix(struct.pack("<41I", *range(41)), 4, [Segment(key, 1 << 30)])

    @property
    def gpu(self) -> int:
        return self.table.find(self._prompt).extents(ONE)[0]

    def depths(self, *depths: int, fill: Sequence[int] = (), level: Level = Level.GPU) -> Changes:
        names = array("Q", [*(self._prompt.name(depth) for depth in depths), *fill])
        return Changes(self.key.tag, level, names.tobytes())

    def digest(self, *depths: int) -> bytes:
        digest = Digest()
        digest.add(Level.GPU, self.depths(*depths).names)
        return bytes(digest)

    def _mac_key(self, _holder: str, epoch: int) -> bytes:
        self.derived += 1
        return bytes([epoch]) * 32


@pytest.fixture
def reading(key: DomainKey) -> Reading:
    return Reading(key)


def batch(seq: int, *changes: Changes, digest: bytes = b"", load: Load | None = None) -> Batch:
    return Batch(ONE, 1, seq, load or Load(), changes, digest=digest)


def whole(seq: int, *changes: Changes, digest: bytes = b"") -> Checkpoint:
    return Checkpoint(ONE, 1, seq, Load(), changes, digest)


async def take(reading: Reading, *messages: Message) -> list[bool]:
    return [await reading.reader.take(message) for message in messages]


async def test_a_large_checkpoint_lets_others_have_their_turns_and_counts_when_it_is_whole(reading: Reading) -> None:
    await take(reading, whole(0, reading.depths(1)))
    large = whole(1, reading.depths(1, 2, 3, fill=FILL), reading.depths(4, 5, fill=FILL[:9]), reading.depths(6))

    taking, seen = reading.reader.take(large), []
    for _ in range(2):
        taking.send(None)
        seen.append(reading.gpu)
    with pytest.raises(StopIteration):
        taking.send(None)

    assert seen == [1, 1]
    assert reading.gpu == 6


async def test_a_page_that_takes_long_to_read_is_not_silent(reading: Reading) -> None:
    taking = reading.reader.take(whole(0, reading.depths(1, 2, fill=FILL), reading.depths(3)))
    taking.send(None)
    reading.now = 60.0
    taking.send(None)

    assert reading.reader.silent_s == 0
    taking.close()


async def test_a_reading_that_is_given_up_leaves_nothing_behind(reading: Reading) -> None:
    taking = reading.reader.take(whole(0, reading.depths(1, 2, fill=FILL), reading.depths(3)))
    taking.send(None)
    taking.close()
    while reading.table.sweep(1000):
        pass

    assert reading.table.bytes == 0


async def test_a_digest_that_is_not_met_calls_for_the_page_to_be_read_anew(reading: Reading) -> None:
    goes_on = await take(
        reading,
        whole(0, reading.depths(1, 2), digest=reading.digest(1, 2)),
        batch(1, reading.depths(3), digest=reading.digest(1, 2, 3)),
        batch(2, digest=reading.digest(1, 2, 3, 4)),
    )

    assert goes_on == [True, True, False]
    assert reading.reader.mismatches == 1
    assert reading.gpu == 3


async def test_a_page_read_anew_counts_only_when_it_is_as_far_as_is_known(reading: Reading) -> None:
    page: list[Message] = [whole(0, reading.depths(1)), batch(1, reading.depths(2)), batch(2, reading.depths(3))]
    await take(reading, *page, batch(3, digest=reading.digest(1, 2, 3, 4)))
    seen = []
    for message in (*page, batch(3, reading.depths(4), digest=reading.digest(1, 2, 3, 4))):
        await take(reading, message)
        seen.append((reading.gpu, reading.reader.known))

    assert seen == [(3, (1, 3)), (3, (1, 3)), (3, (1, 3)), (4, (1, 3))]
    assert (reading.reader.mismatches, reading.reader.gaps) == (1, 0)


async def test_a_page_that_is_itself_wrong_is_read_anew_only_now_and_then(reading: Reading) -> None:
    wrong = reading.digest(9)
    goes_on = await take(reading, whole(0, digest=wrong), whole(0, digest=wrong), batch(1, digest=wrong))
    reading.now = DOUBT_S
    goes_on += await take(reading, batch(2, digest=wrong))

    assert goes_on == [False, True, True, False]
    assert reading.reader.mismatches == 4


async def test_a_gap_says_how_far_behind_the_holdings_are(reading: Reading) -> None:
    goes_on = await take(reading, whole(0), batch(1), batch(5), batch(2))

    assert goes_on == [True, True, False, True]
    assert (reading.reader.known, reading.reader.ahead, reading.reader.gaps) == ((1, 2), (1, 5), 1)


async def crowd(reading: Reading) -> list[bool]:
    """Let two fit, and have three told; then the page is read anew, with seq 1 as the checkpoint behind it."""
    told = await take(reading, whole(0, reading.depths(1)), batch(1, reading.depths(2, 3), load=TWO, digest=ANY))
    return told + await take(reading, msgspec.structs.replace(whole(1, reading.depths(1, 2, 3)), load=TWO))


async def test_a_holder_that_has_more_than_fits_counts_for_nothing_and_is_read_on(
    reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = await crowd(reading)
    goes_on += await take(reading, batch(2, load=TWO, digest=reading.digest(1, 2, 3)))

    assert goes_on == [True, False, True, True]
    assert (reading.gpu, reading.table.blocks(ONE)) == (0, 0)
    assert (reading.reader.known, reading.reader.load) == ((1, 2), TWO)
    assert (reading.reader.plausibility.crowded, reading.reader.mismatches) == (3, 0)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_what_is_removed_while_a_page_is_aside_is_gone_when_it_is_taken_up_again(reading: Reading) -> None:
    await crowd(reading)
    await take(reading, batch(2, reading.depths(2, 3, level=Level.NONE), load=TWO, digest=reading.digest(1)))
    at_once = reading.gpu
    reading.now = ASIDE_S
    await take(reading, batch(3, load=TWO, digest=reading.digest(1)))
    taken_up = reading.gpu
    await take(reading, batch(4, reading.depths(2), load=TWO, digest=reading.digest(1, 2)))

    assert (at_once, taken_up, reading.gpu) == (0, 1, 2)


async def test_a_page_that_never_added_up_leaves_nothing_behind(reading: Reading) -> None:
    await take(reading, msgspec.structs.replace(whole(0, reading.depths(1, 2, 3)), load=TWO))
    seen = reading.gpu
    reading.reader.close()
    while reading.table.sweep(1000):
        pass

    assert (seen, reading.table.bytes) == (0, 0)


async def test_blocks_that_come_faster_than_they_are_computed_set_a_page_aside(reading: Reading) -> None:
    news, seen = [(1, 2, 3), (4, 5), (6, 7)], []  # two fit, two were there before, and time pays for one
    await take(reading, whole(0, reading.depths(9, 10)))
    for seq, names in enumerate(news, 1):
        await take(reading, batch(seq, reading.depths(level=Level.CPU, fill=names), load=TWO))
        seen.append(reading.reader.plausibility.aside)
        reading.now = 0.1

    assert seen == [False, False, True]
    assert reading.reader.plausibility.hasty == 1


async def test_what_comes_while_a_page_is_aside_is_new_as_well(reading: Reading) -> None:
    await crowd(reading)
    seen = []
    for seq, names in ((2, FILL[:1]), (3, FILL[1:2])):  # two fit, one was paid for, and two are owed already
        await take(reading, batch(seq, reading.depths(fill=names, level=Level.CPU), load=TWO))
        seen.append(reading.reader.plausibility.hasty)

    assert seen == [0, 1]


async def test_what_is_told_again_is_not_new(reading: Reading) -> None:
    new = reading.depths(fill=FILL[:3], level=Level.CPU)
    page: list[Message] = [whole(0, reading.depths(1)), batch(1, new, load=TWO)]
    await take(reading, *page)
    for _ in range(4):
        reading.reader.restart()
        await take(reading, *page)

    assert not reading.reader.plausibility.aside


async def test_a_signing_key_is_derived_once_an_epoch(reading: Reading) -> None:
    for epoch, seq in ((1, 0), (1, 1), (2, 0), (2, 1)):
        message = Checkpoint(ONE, epoch, seq, Load())
        await reading.reader.open(seal(message, bytes([epoch]) * 32))

    assert reading.derived == 2
    assert reading.reader.rejected == 0


@pytest.mark.parametrize("names", [1, 100_000])
async def test_large_or_small_only_what_is_signed_is_opened(reading: Reading, names: int) -> None:
    sealed = seal(whole(0, reading.depths(1, fill=range(names))), bytes([1]) * 32)
    altered = msgspec.structs.replace(sealed, body=sealed.body[:-1] + bytes([sealed.body[-1] ^ 1]))

    opened, refused = await reading.reader.open(sealed), await reading.reader.open(altered)

    assert opened == whole(0, reading.depths(1, fill=range(names)))
    assert refused is None
    assert reading.reader.rejected == 1
