"""Pages in a Cluster while slots move, primaries die, freeze and are demoted; the servers are real."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from kvplane.directory import (
    Appended,
    DirectorySettings,
    HolderId,
    Pages,
    PagesDown,
    holder_id,
    open_pages,
)
from kvplane.tests.churning import Fleet, fleet
from kvplane.tests.clusters import Cluster, Reshard, is_primary
from kvplane.tests.messages import batch, keys_of, neighbour, whole
from kvplane.tests.servers import Server, eventually

Until = Callable[[Callable[[], bool]], Awaitable[None]]
SETTINGS = DirectorySettings(timeout_s=1.0)
PATIENT = DirectorySettings(timeout_s=20.0)  # a busy machine may take a while to move three keys
WAIT_S = 15


def reshard(cluster: Cluster, holder: HolderId) -> Reshard:
    """The slot of a page, to another primary."""
    source = cluster.keeper(keys_of(holder).tag)
    return Reshard(key_slot(keys_of(holder).tag.encode()), source, cluster.others(source)[0])


def reloads(fleet: Fleet) -> list[tuple[int, int]]:
    """Of each page: batches that did not follow on the one before, and times it was read anew."""
    pages = [fleet.mirror.seen(holder) for holder in fleet.engines]
    return [(page.gaps, page.reloads) for page in pages if page is not None]


@asynccontextmanager
async def churned(fleet: Fleet) -> AsyncIterator[None]:
    """Events at a steady rate while the context lasts."""

    async def churn() -> None:
        while True:
            fleet.churn()
            await asyncio.sleep(0.01)

    churning = asyncio.create_task(churn())
    try:
        yield
    finally:
        churning.cancel()
        await asyncio.wait([churning])


@pytest.fixture
async def pages(cluster: Cluster) -> AsyncIterator[Pages]:
    async with open_pages(cluster.url, SETTINGS) as opened:
        yield opened


async def test_a_page_that_went_ahead_of_its_slot_is_asked_for_where_it_is(
    cluster: Cluster, pages: Pages, holder: HolderId
) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))
    moving = reshard(cluster, holder)
    moving.begin()
    moving.move(*keys_of(holder).all)
    messages = pages.follow(holder)

    appended = await pages.append(batch(holder, 2))
    async with asyncio.timeout(WAIT_S):
        found = [await anext(messages) for _ in range(3)]
        await pages.append(batch(holder, 3))
        then = await anext(messages)
    await messages.aclose()
    moving.end(cluster.others(cluster.keeper(keys_of(holder).tag)))

    assert not appended.lost
    assert found == [whole(holder, 0), batch(holder, 1), batch(holder, 2)]
    assert then == batch(holder, 3)
    assert not (await pages.append(batch(holder, 4))).lost


async def test_a_page_split_between_two_nodes_is_written_once_it_is_together(
    cluster: Cluster, pages: Pages, holder: HolderId
) -> None:
    await pages.checkpoint(whole(holder, 0))
    await pages.append(batch(holder, 1))
    moving = reshard(cluster, holder)
    moving.begin()
    moving.move(keys_of(holder).log)

    with pytest.raises(PagesDown, match="on two nodes until it has moved"):
        await pages.append(batch(holder, 2))
    waiting = asyncio.ensure_future(pages.append(batch(holder, 2)))
    given_up, _ = await asyncio.wait({waiting}, timeout=0.1)
    await asyncio.to_thread(moving.end, cluster.others(cluster.keeper(keys_of(holder).tag)))

    assert not given_up
    assert not (await waiting).lost


async def test_readers_go_on_while_some_of_their_logs_have_moved(
    cluster: Cluster, pages: Pages, holder: HolderId
) -> None:
    staying = neighbour(holder)
    readers = {one: pages.follow(one) for one in (holder, staying)}
    for one, messages in readers.items():
        await pages.checkpoint(whole(one, 0))
        await pages.append(batch(one, 1))
        assert [(await anext(messages)).seq for _ in range(2)] == [0, 1]
    moving = reshard(cluster, holder)
    moving.begin()
    moving.move(*keys_of(holder).all)

    for one in readers:
        await pages.append(batch(one, 2))
    async with asyncio.timeout(WAIT_S):
        found = [await anext(messages) for messages in readers.values()]
    for messages in readers.values():
        await messages.aclose()
    moving.end(cluster.others(cluster.keeper(keys_of(holder).tag)))

    assert found == [batch(holder, 2), batch(staying, 2)]


async def test_slots_move_under_load_and_no_batch_is_refused_or_missed(cluster: Cluster, until: Until) -> None:
    async with fleet(cluster.url, 6, PATIENT) as six:
        async with churned(six):
            await until(lambda: min(six.seqs().values()) > 5)
            moved, before, read_before = 0, six.seqs(), reloads(six)
            for holder in list(six.engines)[:2]:
                moving = reshard(cluster, holder)
                moving.begin()
                for key in moving.left():
                    await asyncio.to_thread(moving.move, key)
                    await asyncio.sleep(0.02)
                    moved += 1
                await asyncio.to_thread(moving.end, cluster.others())
            await until(lambda: all(seq > before[holder] + 20 for holder, seq in six.seqs().items()))
        await until(six.exact)

        assert moved >= 6
        assert six.mirror.errors == 0
        assert reloads(six) == read_before


async def test_a_killed_primary_costs_no_hit_and_its_pages_are_exact_soon_after_the_failover(
    cluster: Cluster, until: Until
) -> None:
    async with fleet(cluster.url, 12) as twelve:
        for _ in range(20):
            twelve.churn()
        await until(twelve.exact)
        primary = cluster.keeper(keys_of(next(iter(twelve.engines))).tag)
        replica = cluster.replica_of(primary)

        primary.kill()
        kept = twelve.exact()
        async with churned(twelve):
            await until(lambda: is_primary(replica))
        failed_over_at, before = time.monotonic(), twelve.seqs()
        await until(lambda: all(seq > before[holder] for holder, seq in twelve.seqs().items()) and twelve.exact())

        assert kept
        assert time.monotonic() - failed_over_at < 10


async def test_a_page_whose_last_batches_died_with_the_primary_is_lost(
    cluster: Cluster, pages: Pages, holder: HolderId
) -> None:
    await pages.checkpoint(whole(holder, 0))
    primary = cluster.keeper(keys_of(holder).tag)
    replica = cluster.replica_of(primary)
    primary.ask("WAIT", 1, 1000)
    await pages.append(batch(holder, 1))
    messages = pages.follow(holder)
    assert [(await anext(messages)).seq for _ in range(2)] == [0, 1]

    replica.freeze()
    primary.ask("CLIENT", "KILL", "TYPE", "replica")  # what is written from here on does not get there
    await pages.append(batch(holder, 2))
    assert (await anext(messages)).seq == 2
    primary.kill()
    replica.thaw()
    await asyncio.to_thread(_await_primary, replica)
    lost = (await _when_up(lambda: pages.append(batch(holder, 3)))).lost
    await pages.checkpoint(whole(holder, 4))
    await pages.append(batch(holder, 5))
    async with asyncio.timeout(WAIT_S):
        seen = await anext(messages)
    await messages.aclose()

    assert lost
    assert seen.seq == 5


async def test_a_demoted_primary_sends_on_to_its_successor(cluster: Cluster, pages: Pages, holder: HolderId) -> None:
    await pages.checkpoint(whole(holder, 0))
    primary = cluster.keeper(keys_of(holder).tag)
    replica = cluster.replica_of(primary)
    primary.ask("WAIT", 1, 1000)

    replica.ask("CLUSTER", "FAILOVER")
    await asyncio.to_thread(_await_primary, replica)

    assert not (await pages.append(batch(holder, 1))).lost


async def test_a_frozen_primary_costs_its_own_pages_only(cluster: Cluster, pages: Pages, holder: HolderId) -> None:
    frozen = cluster.keeper(keys_of(holder).tag)
    names = (holder_id(f"{holder}-{number}") for number in range(1000))
    other = next(name for name in names if cluster.keeper(keys_of(name).tag) is not frozen)
    await pages.checkpoint(whole(holder, 0))
    await pages.checkpoint(whole(other, 0))

    frozen.freeze()
    began = time.monotonic()
    refused = asyncio.gather(*(pages.append(batch(holder, 1)) for _ in range(100)), return_exceptions=True)
    slowest_s = 0.0
    for seq in range(1, 50):
        sent = time.monotonic()
        await pages.append(batch(other, seq))
        slowest_s = max(slowest_s, time.monotonic() - sent)
    kinds = {type(error) for error in await refused}
    took_s = time.monotonic() - began

    assert kinds == {PagesDown}
    assert took_s < 2.5 * SETTINGS.timeout_s
    assert slowest_s < SETTINGS.timeout_s


async def test_a_cluster_that_is_down_is_waited_for_and_then_said_to_be(
    cluster: Cluster, pages: Pages, holder: HolderId
) -> None:
    await pages.checkpoint(whole(holder, 0))
    keeper = cluster.keeper(keys_of(holder).tag)
    slot = key_slot(keys_of(holder).tag.encode())

    keeper.ask("CLUSTER", "DELSLOTS", slot)
    with pytest.raises(PagesDown, match=r"no node keeps slot|Hash slot not served"):
        await pages.append(batch(holder, 1))
    waiting = asyncio.ensure_future(pages.append(batch(holder, 1)))
    given_up, _ = await asyncio.wait({waiting}, timeout=0.1)
    keeper.ask("CLUSTER", "ADDSLOTS", slot)

    assert not given_up
    await waiting


def _await_primary(node: Server) -> None:
    eventually(lambda: is_primary(node))


async def _when_up(send: Callable[[], Awaitable[Appended]]) -> Appended:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await send()
            except PagesDown:
                await asyncio.sleep(0.05)
