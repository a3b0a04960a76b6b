"""A publisher's page says what its engine can reuse, survives a store that loses it, and ends with the engine."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import pytest

from kvplane.directory import (
    Batch,
    Changes,
    Checkpoint,
    Closure,
    DomainKey,
    Holdings,
    Level,
    MemoryPages,
    Prefix,
    Sealed,
    Segment,
    Served,
    domain_key,
    reading,
)
from kvplane.directory.digest import Digest
from kvplane.directory.wire import names_of
from kvplane.tests.publishers import HOLDER, IDENTITY, FlakyPages, ScriptedEngine
from kvplane.workers.engine import (
    Cleared,
    EngineDead,
    Removed,
    Stored,
    WindowsRemoved,
    WindowsStored,
)
from kvplane.workers.pace import AT_ONCE, Pace
from kvplane.workers.parts import MOST_NAMES
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


def digest(levels: Mapping[int, int]) -> bytes:
    total = Digest()
    for name, level in levels.items():
        total.add(Level(level), struct.pack("<Q", name))
    return bytes(total)


Running = tuple[Publisher, ScriptedEngine, FlakyPages]


class Astray(Closure):
    """Its digest is wrong until it is reconciled."""

    wrong = True

    @property
    def digest(self) -> bytes:
        return b"x" * 48 if self.wrong else super().digest

    def reconcile(self, holding: Iterable[Changes]) -> bool:
        changed, self.wrong = super().reconcile(holding), False
        return changed


@asynccontextmanager
async def publishing(
    pages: FlakyPages | None = None,
    tree: Closure | None = None,
    pace: Pace = AT_ONCE,
    clock: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Running]:
    engine, pages = ScriptedEngine(), pages or FlakyPages()
    publisher = Publisher(engine, pages, tree or Closure(key_of, 4), IDENTITY, clock, pace)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher, engine, pages
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_page_says_where_the_windows_of_a_hybrid_model_stand() -> None:
    def extent(pages: FlakyPages) -> int:
        table = Holdings()
        for message in pages.written:
            table.apply(HOLDER, message.changes)
        prompt = Prefix(words(1, 2, 3, 0), 4, [Segment(key_of(SALT), 1 << 30)])
        return table.find(prompt).extents(HOLDER)[0]

    async with publishing() as (_, engine, pages):
        engine.say(WindowsStored((1, 2), 0, 1), stored(1, 2, 3))
        await until(lambda: extent(pages) == 2)
        engine.say(WindowsRemoved((2,), 0))
        await until(lambda: extent(pages) == 1)


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
        await until(lambda: pages.refused > 0)
        engine.say(stored(1000))
        for number in range(1200):
            publisher.served(outcome(f"d-{number}"))
        await until(engine.queue.empty)
        down_from = len(pages.written)
        pages.down = False
        await until(lambda: bool(pages.outcomes()))
        after = pages.written[down_from:]

    assert isinstance(after[0], Checkpoint)
    assert not any(message.changes for message in after if isinstance(message, Batch))
    assert pages.standing == dict.fromkeys(names(1000), Level.GPU)
    assert pages.outcomes() == [f"d-{number}" for number in range(200, 1200)]


async def test_a_log_that_has_grown_gets_a_checkpoint_at_the_same_number() -> None:
    async with publishing() as (_, engine, pages):
        await until(lambda: bool(pages.batches))
        engine.say(*(stored(block) for block in range(10_000)))
        await until(lambda: len(pages.checkpoints) == 2)
        engine.say(*(stored(10_000 + block) for block in range(1000)))
        await until(lambda: len(pages.standing) == 11_000)
        engine.say(*(stored(20_000 + block) for block in range(1000)))
        await until(lambda: len(pages.checkpoints) == 3)
        grown = pages.checkpoints[2]
        before = pages.written[pages.written.index(grown) - 1]

    assert before.seq == grown.seq
    assert [len(names_of(change)) for change in grown.changes] == [12_000]


async def test_each_batch_and_checkpoint_tells_the_digest_of_what_its_readers_hold() -> None:
    async with publishing() as (_, engine, pages):
        for block in range(100):
            engine.say(stored(block, 1000 + block), Removed((block - 5,)), stored(block, 2000 + block))
            await until(engine.queue.empty)
        await pages.drop(HOLDER)
        engine.say(Cleared(), stored(7, 8, 9))
        await until(lambda: pages.standing.keys() == names(7, 8, 9))

    held: dict[int, int] = {}
    for message in pages.written:
        if isinstance(message, Checkpoint):
            held.clear()
        held.update((name, change.level) for change in message.changes for name in names_of(change))
        assert message.digest == digest(held)
    assert len(pages.checkpoints) > 2


async def test_a_digest_that_went_astray_is_noticed_at_the_next_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    async with publishing(tree=Astray(key_of, 4)) as (publisher, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: pages.standing.keys() == names(1, 2))

        assert publisher.repairs == 1
    assert "gone astray" in caplog.text
    assert pages.batches[-1].digest == digest(pages.standing)


async def test_a_checkpoint_is_written_a_minute_after_the_last_if_there_were_changes() -> None:
    now = 0.0
    async with publishing(clock=lambda: now) as (publisher, engine, pages):
        await until(lambda: bool(pages.batches))
        engine.say(stored(1))
        await until(lambda: len(pages.standing) == 1)
        now = 59.0
        await heard(publisher, pages)
        early = len(pages.checkpoints)
        now = 61.0
        await heard(publisher, pages)
        due = len(pages.checkpoints)
        now = 200.0
        await heard(publisher, pages)

    assert [early, due, len(pages.checkpoints)] == [1, 2, 2]


async def heard(publisher: Publisher, pages: FlakyPages) -> None:
    """Two more batches have been written, so all that was due with the first has been done."""
    for _ in range(2):
        before = len(pages.batches)
        publisher.served(outcome("d"))
        await until(lambda: len(pages.batches) > before)  # noqa: B023 - awaited in this round


async def test_a_great_cache_is_cleared_in_batches_of_bounded_size() -> None:
    blocks = tuple(range(2 * MOST_NAMES + 10))
    async with publishing() as (_, engine, pages):
        await until(lambda: bool(pages.batches))
        engine.say(stored(*blocks))
        await until(lambda: len(pages.standing) == len(blocks))
        engine.say(Cleared(), stored(1))
        await until(lambda: len(pages.standing) == 1)

    sizes = [sum(len(names_of(change)) for change in batch.changes) for batch in pages.batches]
    assert sorted(sizes)[-6:] == [10, 11, *[MOST_NAMES] * 4]
    assert all(bool(batch.digest) == (size < MOST_NAMES) for batch, size in zip(pages.batches, sizes, strict=True))


async def test_a_page_lost_between_two_parts_of_a_change_is_rewritten_whole() -> None:
    blocks = tuple(range(2 * MOST_NAMES + 10))
    async with publishing() as (publisher, engine, pages):
        await until(lambda: bool(pages.batches))
        pages.forget_after = MOST_NAMES
        engine.say(stored(*blocks))
        publisher.served(outcome("d-1"))
        await until(lambda: len(pages.checkpoints) > 1 and pages.outcomes() == ["d-1"])

        assert len(pages.standing) == len(blocks)


async def test_an_engine_that_starts_again_is_told_as_what_it_holds_then() -> None:
    async with publishing() as (_, engine, pages):
        engine.say(stored(1, 2, 3), stored(7, 8))
        await until(lambda: len(pages.standing) == 5)
        engine.say(Cleared(), stored(1, 9))
        await until(lambda: pages.standing == dict.fromkeys(names(1, 9), Level.GPU))
        engine.say(stored(7), Cleared())
        engine.say(stored(5))
        await until(lambda: pages.standing == dict.fromkeys(names(5), Level.GPU))


async def test_news_is_gathered_for_as_long_as_the_pace_asks() -> None:
    gap_s, clock = 0.1, asyncio.get_running_loop().time
    async with publishing(pace=Pace(1.0, gap_s)) as (_, engine, pages):
        await until(lambda: bool(pages.batches))
        began = clock()
        for block in range(20):
            engine.say(stored(block))
            await until(engine.queue.empty)
        await until(lambda: len(pages.standing) == 20)

        assert sum(bool(batch.changes) for batch in pages.batches) <= 2 + (clock() - began) / gap_s


async def test_a_silent_replica_beats_as_often_as_the_pace_asks() -> None:
    async with publishing(pace=Pace(0.01, 0.0)) as (_, _, pages), asyncio.timeout(5):
        await until(lambda: len(pages.batches) >= 24)


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


async def test_an_account_is_what_the_page_says_at_its_place_under_steady_change() -> None:
    told = []
    async with publishing() as (publisher, engine, pages):
        await until(lambda: bool(pages.batches))
        for block in range(10, 50):
            async with reading(pages, HOLDER, lambda *_: IDENTITY.mac_key, WAIT_S) as page:
                engine.say(stored(block, 100 + block), Removed((block - 3,)))
                account = await publisher.account()
                engine.say(stored(200 + block))
                read = await page.at([account.place])
            told.append((account, read.accounts[account.place]))

    assert all(one == other for one, other in told)
    assert len({account.digest for account, _ in told}) == 40


async def test_a_page_that_is_distrusted_is_written_anew_under_a_new_number() -> None:
    async with publishing() as (publisher, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: pages.standing.keys() == names(1, 2))
        before = len(pages.checkpoints)
        publisher.rewrite()
        await until(lambda: len(pages.checkpoints) > before)
        place = pages.written.index(pages.checkpoints[-1])

        assert pages.written[place].seq == pages.written[place - 1].seq + 1
        assert pages.standing.keys() == names(1, 2)


async def test_of_a_hidden_salt_nothing_is_said_nor_of_what_follows_on_its_blocks() -> None:
    async with publishing() as (publisher, engine, pages):
        publisher.hide("once")
        engine.say(Stored((7,), None, words(7), salt="once"), Stored((8,), 7, words(8)), stored(1, 2))
        await until(lambda: bool(pages.standing))
        engine.say(Removed((7, 8)), Removed((2,)))
        await until(lambda: pages.standing.keys() == names(1))

    told = {name for message in pages.written for change in message.changes for name in names_of(change)}
    assert told == names(1, 2)


def test_an_identity_does_not_print_its_key() -> None:
    assert "kkkk" not in repr(IDENTITY)
