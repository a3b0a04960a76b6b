"""A publisher's page says what its engine can reuse, survives a store that loses it, and ends with the engine."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kvplane.directory import (
    Checkpoint,
    Closure,
    DomainKey,
    Level,
    MemoryPages,
    Prefix,
    Sealed,
    Segment,
    Served,
    domain_key,
)
from kvplane.directory.wire import names_of
from kvplane.tests.publishers import HOLDER, IDENTITY, FlakyPages, ScriptedEngine
from kvplane.workers.engine import (
    Cleared,
    EngineDead,
    Removed,
    Stored,
)
from kvplane.workers.publisher import Publisher

SALT = "ab" * 32
WAIT_S = 15


def key_of(salt: str) -> DomainKey:
    return domain_key(salt, "model", "", 4)


def words(*blocks: int) -> bytes:
    return b"".join(struct.pack("<4I", block, 0, 0, 0) for block in blocks)


def names(*blocks: int) -> set[int]:
    prefix = Prefix(words(*blocks, 0), 4, [Segment(key_of(SALT), 1 << 30)])
    return {prefix.name(depth) for depth in range(1, len(blocks) + 1)}


def stored(*blocks: int) -> Stored:
    return Stored(blocks, None, words(*blocks), "gpu", SALT)


def outcome(decision: str) -> Served:
    return Served(decision, "router", "stop", 1, 0, 1, 0.0, 0.0, 0.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


Running = tuple[Publisher, ScriptedEngine, FlakyPages]


@asynccontextmanager
async def publishing(pages: FlakyPages | None = None) -> AsyncIterator[Running]:
    engine, pages = ScriptedEngine(), pages or FlakyPages()
    publisher = Publisher(engine, pages, Closure(key_of, 4), IDENTITY, lambda: 0.0)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher, engine, pages
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_page_begins_with_a_checkpoint_and_goes_on_in_order() -> None:
    async with publishing() as (_, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: bool(pages.standing) and len(pages.batches) >= 3)
        written = list(pages.written)

    assert isinstance(written[0], Checkpoint)
    assert [message.seq for message in written] == list(range(len(written)))
    assert {message.epoch for message in written} == {3}


async def test_events_become_names_and_their_withdrawal() -> None:
    async with publishing() as (_, engine, pages):
        engine.say(stored(1, 2, 3))
        await until(lambda: pages.standing == dict.fromkeys(names(1, 2, 3), Level.GPU))
        engine.say(Removed((2,)))
        await until(lambda: pages.standing == dict.fromkeys(names(1), Level.GPU))
        engine.say(Cleared())
        await until(lambda: not pages.standing)


async def test_what_happens_while_an_append_is_in_flight_goes_into_one_batch() -> None:
    async with publishing() as (_, engine, pages):
        await until(lambda: bool(pages.batches))
        pages.open.clear()
        before = len(pages.batches)
        engine.say(stored(1))
        await until(engine.queue.empty)
        for block in range(2, 50):
            engine.say(stored(block))
        await until(engine.queue.empty)
        pages.open.set()
        await until(lambda: len(pages.standing) == 49)

        assert sum(bool(batch.changes) for batch in pages.batches[before:]) <= 2


async def test_each_batch_says_the_load_and_the_tickets_it_counts() -> None:
    async with publishing() as (publisher, engine, pages):
        engine.waiting = 77
        publisher.counted("router", 5)
        publisher.counted("router", 4)
        await until(lambda: bool(pages.batches) and pages.batches[-1].load.counted == {"router": 5})
        load = pages.batches[-1].load

    assert (load.waiting_prefill_tokens, load.running_sequences, load.decode_blocks) == (77, 1, 2)
    assert (load.free_blocks, load.total_blocks) == (3, 64)


async def test_an_outcome_is_told_at_once() -> None:
    async with publishing() as (publisher, _, pages):
        await until(lambda: bool(pages.batches))
        publisher.served(outcome("d-1"))
        await until(lambda: pages.outcomes() == ["d-1"])


async def test_a_lost_page_is_rewritten_under_a_new_number_with_what_was_lost() -> None:
    async with publishing() as (publisher, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: len(pages.standing) == 2)
        last = pages.written[-1].seq
        await pages.drop(HOLDER)
        engine.say(stored(1, 2, 3))
        publisher.served(outcome("d-1"))
        await until(lambda: len(pages.checkpoints) == 2 and pages.outcomes() == ["d-1"])
        rewritten = pages.checkpoints[-1]

    assert rewritten.seq == last + 2
    assert {name for change in rewritten.changes for name in names_of(change)} == names(1, 2, 3)


async def test_after_an_outage_one_checkpoint_says_all_and_outcomes_follow() -> None:
    async with publishing() as (publisher, engine, pages):
        await until(lambda: bool(pages.batches))
        pages.down = True
        for block in range(100):
            engine.say(stored(block), Removed((block,)))
        engine.say(stored(1000))
        for number in range(1200):
            publisher.served(outcome(f"d-{number}"))
        await until(engine.queue.empty)
        down_from = len(pages.written)
        pages.down = False
        await until(lambda: bool(pages.outcomes()))
        after = pages.written[down_from:]

    assert isinstance(after[0], Checkpoint)
    assert pages.standing == dict.fromkeys(names(1000), Level.GPU)
    assert pages.outcomes() == [f"d-{number}" for number in range(200, 1200)]


async def test_a_log_that_has_grown_gets_a_checkpoint_at_the_same_number() -> None:
    async with publishing() as (_, engine, pages):
        for round_ in range(12):
            engine.say(*(stored(round_ * 1000 + block) for block in range(1000)))
            await until(lambda: len(pages.standing) == (round_ + 1) * 1000)  # noqa: B023 - awaited in this round
        await until(lambda: len(pages.checkpoints) >= 2)
        grown = pages.checkpoints[1]
        before = pages.written[pages.written.index(grown) - 1]

    assert before.seq == grown.seq
    assert len(pages.checkpoints) < 6


async def test_a_dead_engine_ends_it_with_the_engines_own_error_and_no_page() -> None:
    engine, pages = ScriptedEngine(), FlakyPages()
    publisher = Publisher(engine, pages, Closure(key_of, 4), IDENTITY, lambda: 0.0)
    engine.queue.put_nowait(EngineDead("out of memory"))

    with pytest.raises(EngineDead, match="out of memory"):
        async with asyncio.timeout(WAIT_S):
            await publisher.run()

    assert (await MemoryPages.append(pages, Sealed(HOLDER, 3, 1, b""))).lost


async def test_when_cancelled_it_drops_its_page() -> None:
    async with publishing() as (_, _, pages):
        await until(lambda: bool(pages.batches))
        standing = pages.written[-1].seq

    assert (await MemoryPages.append(pages, Sealed(HOLDER, 3, standing + 1, b""))).lost


async def test_when_cancelled_while_the_store_is_down_it_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(WAIT_S), publishing() as (_, _, pages):
        await until(lambda: bool(pages.batches))
        pages.down = True

    assert "left to its lease" in caplog.text


async def test_it_says_how_long_ago_the_page_was_written() -> None:
    now = 10.0
    engine, pages = ScriptedEngine(), FlakyPages()
    publisher = Publisher(engine, pages, Closure(key_of, 4), IDENTITY, lambda: now)
    unwritten = publisher.age_s
    running = asyncio.create_task(publisher.run())
    await until(lambda: bool(pages.batches))
    pages.down = True
    now = 12.5

    assert unwritten is None
    assert publisher.age_s == 2.5
    running.cancel()
    await asyncio.wait([running])


def test_an_identity_does_not_print_its_key() -> None:
    assert "kkkk" not in repr(IDENTITY)
