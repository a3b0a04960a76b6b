"""One publisher from engine events to appended batches, and what pages weigh in Redis while holdings churn."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import fmean, median

from redis.asyncio import Redis

from kvplane.directory import Pages, open_pages
from kvplane.workers.engine import EngineEvent

from .child import in_child
from .fleet import Member, accounts, members
from .forest import Stretch, fresh
from .ingest_rows import OURS, IngestRow
from .reader import SETTINGS
from .told_engine import removed, stored

PUBLISH, WITHDRAW, APPEND, PAGE = "publish", "withdraw", "append_server", "redis_page"

_ROUNDS = 3
_CHAIN_BLOCKS = 64
_TOLD_BLOCKS = 512  # by an engine at once: prefill of 8,192 tokens
_PAGES = 8  # whose weight is measured
_TURNS = 2  # how often each holding is replaced while it is


def publisher_rows(url: str, blocks: int, page_blocks: int) -> list[IngestRow]:
    """One publisher of `blocks`; then a few pages of `page_blocks` each."""
    publish, withdraw, server = in_child(_published, url, blocks)
    weight = in_child(_weighed, url, page_blocks)
    return [
        IngestRow(OURS, PUBLISH, 1, blocks, round(publish), None),
        IngestRow(OURS, WITHDRAW, 1, blocks, round(withdraw), None),
        IngestRow(OURS, APPEND, 1, blocks, round(server), None),
        IngestRow(OURS, PAGE, _PAGES, _PAGES * page_blocks, None, round(weight, 1)),
    ]


def _published(url: str, blocks: int) -> tuple[float, float, float]:
    """Blocks a CPU second: of the publisher for stores, for removals, and of the server for stores."""
    return asyncio.run(_publish(url, [fresh(number, _CHAIN_BLOCKS) for number in range(blocks // _CHAIN_BLOCKS)]))


async def _publish(url: str, chains: Sequence[Stretch]) -> tuple[float, float, float]:
    blocks = len(chains) * _CHAIN_BLOCKS
    stores = _groups([[stored(chain)] for chain in chains])
    removals = _groups([removed(chain) for chain in chains])
    found: list[tuple[float, float, float]] = []
    async with _alone(url) as (member, server):
        for _ in range(_ROUNDS):
            before = await _server_cpu_s(server)
            stored_s = await _told(member, stores)
            appended_s = await _server_cpu_s(server) - before
            removed_s = await _told(member, removals)
            found.append((blocks / stored_s, blocks / removed_s, blocks / appended_s))
    publish, withdraw, append = (median(values) for values in zip(*found, strict=True))
    return publish, withdraw, append


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[tuple[Member, Redis]]:
    async with open_pages(url, SETTINGS) as pages, members(pages, 1) as (member,), Redis.from_url(url) as server:
        yield member, server


async def _told(member: Member, groups: Sequence[Sequence[EngineEvent]]) -> float:
    """CPU seconds until all of this is published. The engine tells more whenever the publisher waits for Redis."""
    began = time.process_time()
    for group in groups:
        member.engine.tell(group)
        await asyncio.sleep(0)
    for _ in range(2):  # an account is given as its batch is made: by the second, the first is appended
        await accounts([member])
    return time.process_time() - began


def _groups(events: Sequence[Sequence[EngineEvent]]) -> Sequence[Sequence[EngineEvent]]:
    """What an engine tells at once."""
    size = _TOLD_BLOCKS // _CHAIN_BLOCKS
    return [[event for chain in events[at : at + size] for event in chain] for at in range(0, len(events), size)]


async def _server_cpu_s(server: Redis) -> float:
    info = await server.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _weighed(url: str, blocks: int) -> float:
    """Bytes in Redis a held block, all keys of a page counted, on average while holdings are replaced."""
    return asyncio.run(_weigh(url, blocks // _CHAIN_BLOCKS))


async def _weigh(url: str, chains: int) -> float:
    weights: list[float] = []
    async with open_pages(url, SETTINGS) as pages, members(pages, _PAGES) as fleet:
        for turn in range((1 + _TURNS) * chains):
            for number, member in enumerate(fleet):
                events: list[EngineEvent] = [stored(fresh(turn * _PAGES + number, _CHAIN_BLOCKS))]
                if turn >= chains:
                    events = removed(fresh((turn - chains) * _PAGES + number, _CHAIN_BLOCKS)) + events
                member.engine.tell(events)
            await accounts(fleet)
            if turn >= chains:
                weights.append(await _bytes(pages, fleet) / sum(member.closure.blocks for member in fleet))
    return fmean(weights)


async def _bytes(pages: Pages, fleet: Sequence[Member]) -> int:
    return sum(size.bytes for size in await asyncio.gather(*(pages.measure(member.holder) for member in fleet)))
