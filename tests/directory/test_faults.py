"""From an engine's events to a router's table through real shards, while shards are flushed and killed."""

import os
import signal
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from redis import Redis

from kvplane.directory import EmbeddedShards
from kvplane.tests.churning import fleet

Until = Callable[[Callable[[], bool]], Awaitable[None]]


def client(shards: EmbeddedShards, number: int) -> Redis:
    """One server's, by the user that may do all there is."""
    login = urlsplit(shards.url)
    return Redis(port=shards.health()[number].port, username=login.username, password=login.password)


def size(shards: EmbeddedShards, number: int) -> int:
    with client(shards, number) as shard:
        return int(shard.dbsize())


def flush(shards: EmbeddedShards, number: int) -> None:
    with client(shards, number) as shard:
        shard.flushall()


async def test_a_mirror_is_exact_once_events_rest(shards: EmbeddedShards, until: Until) -> None:
    async with fleet(shards.url, 6) as six:
        for _ in range(3):
            for _ in range(50):
                six.churn()
            await until(six.exact)

        assert six.mirror.errors == 0
        assert {seen.rejected for holder in six.engines if (seen := six.mirror.seen(holder))} == {0}


async def test_a_flushed_shard_is_written_again_and_no_hit_is_lost_meanwhile(
    shards: EmbeddedShards, until: Until
) -> None:
    async with fleet(shards.url, 6) as six:
        for _ in range(20):
            six.churn()
        await until(six.exact)
        before = six.seqs()

        flushed = sum(size(shards, number) for number in range(3))
        for number in range(3):
            flush(shards, number)
        kept = six.exact()
        await until(lambda: all(seq > before[holder] + 2 for holder, seq in six.seqs().items()))
        still = six.exact()
        for _ in range(20):
            six.churn()
        await until(six.exact)

    assert flushed >= 18
    assert kept
    assert still


async def test_a_killed_shard_comes_back_and_so_do_its_pages(shards: EmbeddedShards, until: Until) -> None:
    async with fleet(shards.url, 12) as twelve:
        for _ in range(20):
            twelve.churn()
        await until(twelve.exact)
        busiest = max(range(3), key=lambda number: size(shards, number))
        kept_there, victim = size(shards, busiest), shards.health()[busiest]
        assert victim.pid is not None

        os.kill(victim.pid, signal.SIGKILL)
        before = twelve.seqs()
        kept = twelve.exact()
        for _ in range(20):
            twelve.churn()
        await until(lambda: all(seq > before[holder] for holder, seq in twelve.seqs().items()))
        await until(twelve.exact)
        revived = shards.health()[busiest]

    assert kept_there >= 3
    assert kept
    assert (revived.up, revived.port, revived.pid != victim.pid) == (True, victim.port, True)
