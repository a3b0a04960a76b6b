"""A fleet of publishers whose engines store and evict at random, and a mirror that must come to agree with them."""

import asyncio
import random
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from kvplane.directory import (
    Closure,
    DirectorySettings,
    DomainKey,
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
async def fleet(url: str, count: int, settings: DirectorySettings | None = None) -> AsyncIterator[Fleet]:
    holders = [holder_id(f"fleet-{number}") for number in range(count)]
    settings = settings or DirectorySettings()
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
