"""Pages on one server that is silent, full, loading, demoted, or scribbled on by someone else."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError

from kvplane.directory import (
    BadMessage,
    DirectorySettings,
    HolderId,
    Pages,
    PagesDown,
    holder_id,
    open_pages,
)
from kvplane.tests.forwarder import Forwarder
from kvplane.tests.messages import batch, keys_of, neighbour, whole
from kvplane.tests.servers import Server, eventually

WAIT_S = 15


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
async def pages(server: str) -> AsyncIterator[Pages]:
    async with open_pages(server, DirectorySettings()) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.parametrize("down", ["closed", "silent"])
async def test_a_store_that_does_not_answer_is_said_to_be_down_within_seconds(
    holder: HolderId, silent: str, scheme: str, down: str
) -> None:
    address = silent if down == "silent" else "127.0.0.1:1"
    async with open_pages(f"{scheme}://{address}", DirectorySettings()) as pages:
        began = time.monotonic()
        with pytest.raises(PagesDown, match="Redis does not answer"):
            await pages.append(batch(holder, 1))

        assert time.monotonic() - began < 6


async def test_a_page_someone_else_scribbled_on_is_a_bad_message(pages: Pages, holder: HolderId, redis: Redis) -> None:
    await pages.checkpoint(whole(holder, 0))
    [checkpoint] = [key async for key in redis.scan_iter(f"*:{holder}:checkpoint")]

    await redis.set(checkpoint, b"not a checkpoint")

    with pytest.raises(BadMessage, match="begins with its epoch and seq"):
        await anext(pages.follow(holder))


@pytest.mark.parametrize("part", ["log", "checkpoint", "head"])
async def test_a_key_that_someone_else_set_is_told_to_readers_and_written_anew(
    pages: Pages, holder: HolderId, redis: Redis, part: str
) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))
    key = getattr(keys_of(holder), part)
    await redis.delete(key)
    await (redis.set(key, "nonsense") if part == "log" else redis.rpush(key, "nonsense"))

    if part != "head":  # which no reader reads
        with pytest.raises(BadMessage, match="of another type"):
            await anext(pages.follow(holder))
    lost = (await pages.append(batch(holder, 2))).lost
    await pages.checkpoint(whole(holder, 3))
    again = await pages.append(batch(holder, 4))

    assert lost
    assert not again.lost


async def test_a_log_of_the_wrong_type_costs_its_own_readers_only(pages: Pages, holder: HolderId, redis: Redis) -> None:
    well = neighbour(holder)
    readers = {one: pages.follow(one) for one in (holder, well)}
    for one, messages in readers.items():
        await pages.checkpoint(whole(one, 0))
        await anext(messages)
    waiting = [asyncio.ensure_future(anext(messages)) for messages in readers.values()]
    await asyncio.sleep(0)

    await redis.set(keys_of(holder).log, "nonsense")
    await pages.append(batch(well, 1))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(BadMessage, match=f"{keys_of(holder).log}: .* of another type"):
            await waiting[0]
        found = await waiting[1]
    await readers[well].aclose()

    assert found == batch(well, 1)


async def test_a_checkpoint_or_a_log_too_large_to_be_true_is_not_read(
    pages: Pages, holder: HolderId, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.setrange(keys_of(holder).checkpoint, (64 << 20) + 64, b"x")
    with pytest.raises(BadMessage, match="at most 67108928 and"):
        await anext(pages.follow(holder))
    await pages.drop(holder)

    monkeypatch.setattr("kvplane.directory.redis_pages._MAX_LOG_BYTES", 100_000)
    await redis.xadd(keys_of(holder).log, {"body": b"x" * 200_000}, id="1-1")
    with pytest.raises(BadMessage, match="and 100000 are read"):
        await anext(pages.follow(holder))


async def test_a_log_entry_that_is_no_batch_is_a_bad_message(pages: Pages, holder: HolderId, redis: Redis) -> None:
    await redis.xadd(keys_of(holder).log, {"no": "body"}, id="1-1")

    with pytest.raises(BadMessage, match="entry 1-1 is no batch"):
        await anext(pages.follow(holder))


async def test_a_full_node_drops_what_it_refuses_and_says_what_to_do(
    pages: Pages, holder: HolderId, redis: Redis
) -> None:
    other = neighbour(holder)
    await pages.checkpoint(whole(holder, 0))
    await pages.checkpoint(whole(other, 0))
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(PagesDown, match=r"is full .* raise its maxmemory"):
            await pages.append(batch(holder, 1))
        left = await redis.exists(*keys_of(holder).all)
        with pytest.raises(PagesDown, match="is full"):
            await pages.checkpoint(whole(holder, 2))
        await pages.checkpoint(whole(other, 1))
        await pages.drop(other)
    finally:
        await redis.config_set("maxmemory", 0)
    await pages.checkpoint(whole(holder, 3))

    assert left == 0
    assert await redis.exists(*keys_of(other).all) == 0
    assert not (await pages.append(batch(holder, 4))).lost


async def test_a_name_that_is_given_to_another_server_is_followed_there(holder: HolderId, tmp_path: Path) -> None:
    """As a managed Redis does when its primary fails over: what is connected meets a server that is read only."""
    with Server(tmp_path / "old") as old, Server(tmp_path / "new") as new:
        async with (
            Forwarder(old.address) as name,
            open_pages(f"redis://{name.address}", DirectorySettings()) as pages,
        ):
            await pages.checkpoint(whole(holder, 0))

            old.ask("REPLICAOF", *new.address)
            name.target = new.address
            await pages.checkpoint(whole(holder, 1))

        assert new.ask("EXISTS", *keys_of(holder).all) == 2


async def test_a_server_that_is_loading_is_waited_for(holder: HolderId, tmp_path: Path) -> None:
    with Server(tmp_path, "--enable-debug-command", "yes", "--rdbcompression", "no") as running:
        async with open_pages(running.url, DirectorySettings()) as pages:
            await pages.checkpoint(whole(holder, 0))
            running.ask("DEBUG", "POPULATE", 12_000, "filler", 1000)  # it looks up from loading every 2 MB
            running.ask("CONFIG", "SET", "key-load-delay", 30)
            reloading = threading.Thread(target=running.ask, args=("DEBUG", "RELOAD"))
            with running.client() as watching:
                watching.ping()
                reloading.start()
                await asyncio.to_thread(eventually, lambda: _is_loading(watching))

            appended = await pages.append(batch(holder, 1))
            reloading.join()

    assert not appended.lost


def _is_loading(client: SyncRedis) -> bool:
    try:
        client.get("any")
    except BusyLoadingError:
        return True
    return False


async def test_many_verbs_share_few_connections_and_no_reader_stands_in_their_way(
    pages: Pages, holder: HolderId, redis: Redis
) -> None:
    others = [holder_id(f"{holder}-{number}") for number in range(300)]
    before = len(await redis.client_list())
    readers = [asyncio.ensure_future(anext(pages.follow(other))) for other in others]
    async with asyncio.timeout(WAIT_S):
        while len(await redis.client_list()) < before + 16:
            await asyncio.sleep(0)

    await asyncio.gather(*(pages.checkpoint(whole(other, 0)) for other in others))
    appended = await asyncio.gather(*(pages.append(batch(other, 1)) for other in others))
    connections = len(await redis.client_list()) - before
    async with asyncio.timeout(WAIT_S):
        found = await asyncio.gather(*readers)

    assert not any(append.lost for append in appended)
    assert {message.seq for message in found} <= {0, 1}
    assert 16 <= connections <= 16 + 48
