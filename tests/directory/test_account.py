"""A page that is read anew gives the account of its holder at exactly the places that were asked for."""

from array import array
from collections.abc import Sequence

from kvplane.directory import (
    Batch,
    Changes,
    Checkpoint,
    HolderId,
    Level,
    Load,
    MemoryPages,
    PageRead,
    Place,
    Sealed,
    account_of,
    holder_id,
    reading,
    seal,
)

HOLDER = holder_id("r-0")
KEY = b"k" * 32
TAG = "0" * 16
WAIT_S = 0.05


def mac_key(holder: HolderId, epoch: int) -> bytes:
    return KEY


def changes(*pairs: tuple[Level, Sequence[int]]) -> tuple[Changes, ...]:
    return tuple(Changes(TAG, level, array("Q", names).tobytes()) for level, names in pairs)


def whole(seq: int, *pairs: tuple[Level, Sequence[int]]) -> Sealed:
    return seal(Checkpoint(HOLDER, 1, seq, Load(), changes(*pairs)), KEY)


def batch(seq: int, *pairs: tuple[Level, Sequence[int]], key: bytes = KEY) -> Sealed:
    return seal(Batch(HOLDER, 1, seq, Load(), changes(*pairs)), key)


async def page(checkpoint: Sealed, *batches: Sealed) -> MemoryPages:
    pages = MemoryPages()
    await pages.checkpoint(checkpoint)
    for each in batches:
        assert not (await pages.append(each)).lost
    return pages


async def read_at(pages: MemoryPages, *places: Place) -> PageRead:
    async with reading(pages, HOLDER, mac_key, WAIT_S) as begun:
        return await begun.at(places)


def place(seq: int) -> Place:
    return (1, seq)


async def test_an_account_is_of_all_changes_up_to_its_place() -> None:
    pages = await page(
        whole(0, (Level.GPU, [1, 2, 3])),
        batch(1, (Level.CPU, [2])),
        batch(2, (Level.NONE, [3]), (Level.DISK, [4, 5])),
        batch(3, (Level.NONE, [1])),
    )
    read = await read_at(pages, place(1), place(2))

    assert read.flaw is None
    assert read.accounts == {
        place(1): account_of(HOLDER, place(1), changes((Level.GPU, [1, 3]), (Level.CPU, [2]))),
        place(2): account_of(HOLDER, place(2), changes((Level.GPU, [1]), (Level.CPU, [2]), (Level.DISK, [4, 5]))),
    }
    assert read.accounts[place(2)].blocks == (1, 1, 2)


async def test_a_checkpoint_is_told_apart_since_it_may_say_what_comes_next() -> None:
    pages = await page(whole(4, (Level.GPU, [1])), batch(5))
    read = await read_at(pages, place(4), place(5))

    assert list(read.accounts) == [place(5)]
    assert read.checkpoint == account_of(HOLDER, place(4), changes((Level.GPU, [1])))


async def test_a_place_that_comes_after_the_checkpoint_was_read_is_told_even_if_a_newer_checkpoint_comes() -> None:
    pages = await page(whole(0))
    async with reading(pages, HOLDER, mac_key, WAIT_S) as begun:
        await pages.append(batch(1, (Level.GPU, [1])))
        await pages.checkpoint(whole(1, (Level.GPU, [1, 2])))
        read = await begun.at([place(1)])

    assert read.accounts[place(1)].blocks == (1, 0, 0)


async def test_what_is_not_written_yet_is_waited_for_and_then_left_untold() -> None:
    pages = await page(whole(0), batch(1))
    read = await read_at(pages, place(1), place(9))

    assert list(read.accounts) == [place(1)]
    assert read.place == place(1)
    assert read.flaw == "nothing more came"


async def test_a_page_that_is_not_there_says_so() -> None:
    read = await read_at(MemoryPages(), place(1))

    assert (read.place, read.flaw) == (None, "it is not there")


async def test_a_message_that_cannot_be_trusted_ends_the_reading_and_is_the_flaw() -> None:
    pages = await page(whole(0), batch(1), batch(2, key=b"x" * 32), batch(3))
    read = await read_at(pages, place(1), place(3))

    assert list(read.accounts) == [place(1)]
    assert "does not verify" in (read.flaw or "")


async def test_a_batch_that_does_not_follow_on_the_last_ends_the_reading() -> None:
    pages = await page(whole(0), batch(1))
    async with reading(pages, HOLDER, mac_key, WAIT_S) as begun:
        for seq in (2, 3):
            await pages.append(batch(seq))
        await pages.checkpoint(whole(3))
        await pages.checkpoint(whole(4))
        await pages.append(batch(5))
        read = await begun.at([place(5)])

    assert read.accounts == {}
    assert read.flaw is not None
