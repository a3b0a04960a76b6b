"""The one suite every store of pages passes."""

import asyncio
from collections.abc import AsyncGenerator

from kvplane.directory import HolderId, Pages, Sealed, holder_id
from kvplane.tests.messages import batch, whole

WAIT_S = 10


async def read(messages: AsyncGenerator[Sealed, None], count: int) -> list[Sealed]:
    async with asyncio.timeout(WAIT_S):
        return [await anext(messages) for _ in range(count)]


async def test_a_page_begins_with_a_checkpoint(pages: Pages, holder: HolderId) -> None:
    before = await pages.append(batch(holder, 1))
    await pages.checkpoint(whole(holder, 0))
    after = await pages.append(batch(holder, 1))

    assert before.lost
    assert not after.lost


async def test_only_the_next_batch_of_the_same_epoch_is_added(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 5))

    assert (await pages.append(batch(holder, 5))).lost
    assert (await pages.append(batch(holder, 7))).lost
    assert (await pages.append(batch(holder, 6, epoch=2))).lost
    assert not (await pages.append(batch(holder, 6))).lost
    assert (await pages.append(batch(holder, 6))).lost


async def test_a_reader_gets_the_checkpoint_then_what_is_behind_it_then_what_comes(
    pages: Pages, holder: HolderId
) -> None:
    sent = [whole(holder, 3), batch(holder, 4), batch(holder, 5)]
    await pages.checkpoint(sent[0])
    await pages.append(sent[1])
    messages = pages.follow(holder)

    first = await read(messages, 2)
    await pages.append(sent[2])
    then = await read(messages, 1)
    await messages.aclose()

    assert first + then == sent


async def test_a_reader_waits_for_a_page_that_is_not_there_yet(pages: Pages, holder: HolderId) -> None:
    messages = pages.follow(holder)
    waiting = asyncio.ensure_future(read(messages, 1))
    await asyncio.sleep(0)

    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))
    found = await waiting
    await messages.aclose()

    assert found[0] in (whole(holder, 0), batch(holder, 1))


async def test_a_checkpoint_costs_a_slow_reader_nothing(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    messages = pages.follow(holder)
    await read(messages, 1)

    await pages.append(batch(holder, 1))
    await pages.checkpoint(whole(holder, 1))
    await pages.append(batch(holder, 2))
    seen = await read(messages, 2)
    await messages.aclose()

    assert [message.seq for message in seen] == [1, 2]


async def test_a_new_reader_is_spared_what_the_checkpoint_says(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    for seq in (1, 2, 3):
        await pages.append(batch(holder, seq))
    await pages.checkpoint(whole(holder, 3))
    await pages.append(batch(holder, 4))
    messages = pages.follow(holder)

    seen = await read(messages, 2)
    await messages.aclose()

    assert [message.seq for message in seen] == [3, 4]


async def test_after_a_rewrite_a_reader_sees_a_gap(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    messages = pages.follow(holder)
    await read(messages, 1)

    await pages.checkpoint(whole(holder, 2))
    stale = await pages.append(batch(holder, 1))
    await pages.append(batch(holder, 3))
    seen = await read(messages, 1)
    await messages.aclose()

    assert stale.lost
    assert seen == [batch(holder, 3)]


async def test_a_new_epoch_replaces_the_page(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))
    old = pages.follow(holder)
    await read(old, 2)

    await pages.checkpoint(whole(holder, 0, epoch=2))
    stale = await pages.append(batch(holder, 2))
    fresh = await pages.append(batch(holder, 1, epoch=2))
    new = pages.follow(holder)
    followed, read_anew = await read(old, 1), await read(new, 2)
    await old.aclose()
    await new.aclose()

    assert stale.lost
    assert not fresh.lost
    assert followed == [batch(holder, 1, epoch=2)]
    assert read_anew == [whole(holder, 0, epoch=2), batch(holder, 1, epoch=2)]


async def test_a_page_that_is_dropped_is_lost_to_its_writer(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))

    await pages.drop(holder)
    await pages.drop(holder)

    assert (await pages.append(batch(holder, 1))).lost


async def test_two_readers_of_one_page_both_get_all_of_it(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    early = pages.follow(holder)
    await read(early, 1)
    await pages.append(batch(holder, 1))
    await read(early, 1)
    late = pages.follow(holder)
    await read(late, 2)

    await pages.append(batch(holder, 2))
    both = await read(early, 1) + await read(late, 1)
    await early.aclose()
    await late.aclose()

    assert both == [batch(holder, 2)] * 2


async def test_pages_do_not_touch_each_other(pages: Pages, holder: HolderId) -> None:
    others = [holder_id(f"{holder}-{number}") for number in range(20)]
    readers = {}
    for number, other in enumerate(others):
        await pages.checkpoint(whole(other, number))
        readers[other] = pages.follow(other)
        assert await read(readers[other], 1) == [whole(other, number)]

    for number, other in enumerate(others):
        await pages.append(batch(other, number + 1))
    seen = {other: (await read(messages, 1))[0] for other, messages in readers.items()}
    for messages in readers.values():
        await messages.aclose()

    assert seen == {other: batch(other, number + 1) for number, other in enumerate(others)}


async def test_a_page_is_measured_and_one_that_is_not_there_takes_nothing(pages: Pages, holder: HolderId) -> None:
    none = await pages.measure(holder)
    await pages.checkpoint(whole(holder, 0))
    short = await pages.measure(holder)
    for seq in range(1, 50):
        await pages.append(batch(holder, seq))
    long = await pages.measure(holder)

    assert none.bytes == 0
    assert short.checkpoint_bytes >= len(whole(holder, 0).body)
    assert long.log_bytes >= 49 * len(batch(holder, 1).body)
    assert long.checkpoint_bytes == short.checkpoint_bytes
    assert none.node == long.node
