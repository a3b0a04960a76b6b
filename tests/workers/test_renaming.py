"""A page goes from one name epoch to another while its engine's cache changes, and is never in both or in neither."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kvplane.directory import Account, Checkpoint, Closure, Level, Prefix, Segment, domain_key, reading
from kvplane.directory.wire import names_of
from kvplane.tests.publishers import HOLDER, IDENTITY, FlakyPages, ScriptedEngine
from kvplane.workers.engine import Cleared, Removed, Stored
from kvplane.workers.pace import pace
from kvplane.workers.publisher import Publisher
from kvplane.workers.renaming import Renaming, spread_s

SALT = "ab" * 32
WAIT_S = 15


def closure_of(epoch: int) -> Closure:
    return Closure(lambda salt: domain_key(salt, "model", "", 4, epoch), 4)


def words(*blocks: int) -> bytes:
    return b"".join(struct.pack("<4I", block, 0, 0, 0) for block in blocks)


def names(epoch: int, *blocks: int) -> set[int]:
    prefix = Prefix(words(*blocks, 0), 4, [Segment(domain_key(SALT, "model", "", 4, epoch), 1 << 30)])
    return {prefix.name(depth) for depth in range(1, len(blocks) + 1)}


def stored(*blocks: int) -> Stored:
    return Stored(blocks, None, words(*blocks), "gpu", SALT)


async def at_once() -> None:
    """No pause."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


Running = tuple[Publisher, Renaming, ScriptedEngine, FlakyPages]


@asynccontextmanager
async def publishing(epoch: int = 0, pause: Callable[[], Awaitable[None]] = at_once) -> AsyncIterator[Running]:
    engine, pages = ScriptedEngine(), FlakyPages()
    publisher = Publisher(engine, pages, closure_of(epoch), IDENTITY, lambda: 0.0)
    renaming = Renaming(closure_of, publisher.go_over, epoch, pause)
    running = [asyncio.create_task(publisher.run()), asyncio.create_task(renaming.run())]
    try:
        yield publisher, renaming, engine, pages
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def test_a_page_is_written_anew_under_the_names_of_the_epoch_that_was_told() -> None:
    async with publishing() as (publisher, renaming, engine, pages):
        engine.say(stored(1, 2, 3), Removed((3,)))
        await until(lambda: pages.standing.keys() == names(0, 1, 2))
        at_once = renaming.aim(5)
        await until(lambda: renaming.epoch == 5)
        [begun, gone_over] = pages.checkpoints
        before = pages.written[pages.written.index(gone_over) - 1]

        assert at_once == 0
        assert pages.standing == dict.fromkeys(names(5, 1, 2), Level.GPU)
        assert (begun.seq, gone_over.seq) == (0, before.seq + 1)
        assert publisher.blocks == 2


async def test_a_page_goes_on_in_the_new_names() -> None:
    async with publishing() as (_, renaming, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: len(pages.standing) == 2)
        renaming.aim(1)
        await until(lambda: renaming.epoch == 1)
        engine.say(Stored((3,), 2, words(3)), stored(7))
        await until(lambda: pages.standing.keys() == names(1, 1, 2, 3) | names(1, 7))
        engine.say(Removed((2,)))
        await until(lambda: pages.standing.keys() == names(1, 1) | names(1, 7))
        engine.say(Cleared())
        await until(lambda: not pages.standing)


async def test_no_message_tells_names_of_two_epochs_and_only_a_checkpoint_changes_epochs() -> None:
    async with publishing() as (_, renaming, engine, pages):
        engine.say(*(stored(block, block + 10_000) for block in range(2000)))
        await until(lambda: len(pages.standing) == 4000)
        renaming.aim(1)
        for block in range(2000, 2400):
            engine.say(stored(block, block + 10_000), Removed((block - 1000,)))
            await asyncio.sleep(0)
        await until(lambda: renaming.epoch == 1 and engine.queue.empty())
        everything = range(2400)
        await until(lambda: len(pages.standing) == 2 * 2400 - 2 * 400)

    of_epoch = [{name for block in everything for name in names(epoch, block, block + 10_000)} for epoch in (0, 1)]
    epochs = []
    for message in pages.written:
        told = {name for change in message.changes for name in names_of(change)}
        if told:
            assert told <= of_epoch[0] or told <= of_epoch[1]
            epochs.append((isinstance(message, Checkpoint), told <= of_epoch[1]))
    assert [is_next for _, is_next in epochs] == sorted(is_next for _, is_next in epochs)
    assert next(is_checkpoint for is_checkpoint, is_next in epochs if is_next)


async def test_while_the_store_is_down_the_page_has_not_gone_over() -> None:
    async with publishing() as (_, renaming, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: len(pages.standing) == 2)
        pages.down = True
        refused = pages.refused
        renaming.aim(1)
        await until(lambda: pages.refused > refused + 1)
        during = renaming.aim(1)
        pages.down = False
        await until(lambda: renaming.epoch == 1)

        assert during == 0
        assert pages.standing.keys() == names(1, 1, 2)


async def test_a_page_ends_in_the_epoch_that_was_told_last() -> None:
    async with publishing(epoch=3) as (_, renaming, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: len(pages.standing) == 2)
        for epoch in (4, 5, 4, 3, 6):
            renaming.aim(epoch)
            await asyncio.sleep(0)
        await until(lambda: renaming.epoch == 6)
        written = len(pages.checkpoints)
        renaming.aim(6)
        engine.say(stored(9))
        await until(lambda: len(pages.standing) == 3)

        assert pages.standing.keys() == names(6, 1, 2) | names(6, 9)
        assert len(pages.checkpoints) == written


async def test_a_page_waits_for_its_turn_and_then_goes_where_it_was_told_last() -> None:
    turn = asyncio.Event()

    async def pause() -> None:
        await turn.wait()

    async with publishing(pause=pause) as (_, renaming, engine, pages):
        engine.say(stored(1, 2))
        await until(lambda: len(pages.standing) == 2)
        renaming.aim(1)
        engine.say(stored(7))
        await until(lambda: len(pages.standing) == 3)
        waiting = renaming.aim(2)
        turn.set()
        await until(lambda: renaming.epoch == 2)

        assert waiting == 0
        assert len(pages.checkpoints) == 2
        assert pages.standing.keys() == names(2, 1, 2) | names(2, 7)


def test_pages_are_written_anew_over_a_time_in_which_routers_can_read_them() -> None:
    assert spread_s(pace(1000), blocks=8000) == pytest.approx(20.0)
    assert spread_s(pace(8), blocks=4000) == pytest.approx(0.08)


async def test_an_account_during_the_change_is_what_the_page_says_at_its_place() -> None:
    told = list[tuple[Account, Account]]()
    async with publishing() as (publisher, renaming, engine, pages):
        engine.say(*(stored(block, block + 10_000) for block in range(1000)))
        await until(lambda: len(pages.standing) == 2000)
        for epoch in range(1, 6):
            renaming.aim(epoch)
            while len(told) < epoch:  # a page that is written anew just then leaves a place untold
                async with reading(pages, HOLDER, lambda *_: IDENTITY.mac_key, WAIT_S) as page:
                    account = await publisher.account()
                    read = await page.at([account.place])
                told += [(account, read.accounts[place]) for place in [account.place] if place in read.accounts]
            await until(lambda: renaming.epoch == epoch)  # noqa: B023 - awaited in this round

    assert all(one == other for one, other in told)
    assert all(sum(account.blocks) == 2000 for account, _ in told)
