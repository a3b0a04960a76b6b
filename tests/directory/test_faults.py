"""From an engine's events to a router's table through real shards, while shards are flushed and killed."""

import asyncio
import os
import random
import signal
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from redis import Redis

from kvplane.directory import (
    Closure,
    DirectorySettings,
    DomainKey,
    EmbeddedShards,
    HolderId,
    Holdings,
    Mirror,
    Pages,
    Prefix,
    Segment,
    domain_key,
    holder_id,
    open_pages,
)
from kvplane.workers.engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest, Removed, Stored
from kvplane.workers.publisher import Identity, Publisher

Until = Callable[[Callable[[], bool]], Awaitable[None]]
SALT = "ab" * 32
KEY = b"k" * 32


class ChurningEngine:
    """Stores and evicts blocks of a few long prompts, and knows what it holds."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._queue = asyncio.Queue[Sequence[EngineEvent]]()
        self.depths = [0] * 4  # blocks held of each prompt

    def churn(self) -> None:
        number, depth = self._chance.randrange(4), self._chance.randrange(20)
        old, self.depths[number] = self.depths[number], depth
        hashes = [bytes((number, block)) for block in range(20)]
        if depth > old:
            parent = hashes[old - 1] if old else None
            event = Stored(tuple(hashes[old:depth]), parent, words(number, old, depth), "gpu", SALT)
            self._queue.put_nowait([event])
        else:
            self._queue.put_nowait([Removed(tuple(reversed(hashes[depth:old])))])

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        raise EngineDead("this engine only tells events")

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        while True:
            yield await self._queue.get()

    def load(self) -> EngineLoad:
        return EngineLoad(0, 0, 0, 0)

    def capacity(self) -> Capacity:
        return Capacity(80, 4, 1000, 4)


def words(number: int, first: int, last: int) -> bytes:
    return b"".join(struct.pack("<4I", number, block, 0, 0) for block in range(first, last))


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", 4)


class Fleet:
    """Some publishers on one store of pages, and one mirror on another."""

    def __init__(self, pages: Pages, holders: Sequence[HolderId]) -> None:
        self.holdings = Holdings()
        self.engines = {holder: ChurningEngine(seed) for seed, holder in enumerate(holders)}
        self.mirror = Mirror(
            pages, self.holdings, lambda _holder, _epoch: KEY, lambda _holder, _served: None, time.monotonic
        )
        self._prompts = [Prefix(words(number, 0, 21), 4, [Segment(key_of(SALT), 1 << 30)]) for number in range(4)]

    def churn(self) -> None:
        for engine in self.engines.values():
            engine.churn()

    def exact(self) -> bool:
        found = [self.holdings.find(prompt) for prompt in self._prompts]
        return all(
            [overlap.extents(holder)[0] for overlap in found] == engine.depths
            for holder, engine in self.engines.items()
        )

    def seqs(self) -> dict[HolderId, int]:
        seen = {holder: self.mirror.seen(holder) for holder in self.engines}
        return {holder: -1 if at is None else at.seq for holder, at in seen.items()}


@asynccontextmanager
async def fleet(url: str, count: int) -> AsyncIterator[Fleet]:
    holders = [holder_id(f"fleet-{number}") for number in range(count)]
    settings = DirectorySettings()
    async with open_pages(url, settings) as written, open_pages(url, settings) as read, asyncio.TaskGroup() as tasks:
        whole = Fleet(read, holders)
        running = [tasks.create_task(whole.mirror.run(lambda: holders))]
        for holder, engine in whole.engines.items():
            identity = Identity(holder, time.time_ns() // 1000, KEY)
            publisher = Publisher(engine, written, Closure(key_of, 4), identity, time.monotonic)
            running.append(tasks.create_task(publisher.run()))
        yield whole
        for task in running:
            task.cancel()


def size(shards: EmbeddedShards, number: int) -> int:
    with Redis(port=shards.health()[number].port) as shard:
        return int(shard.dbsize())


def flush(shards: EmbeddedShards, number: int) -> None:
    with Redis(port=shards.health()[number].port) as shard:
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
