"""A mirror believes what is signed and in order, reads one page anew when in doubt, and never lets one spoil others."""

import asyncio
import struct
from array import array
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from kvplane.directory import (
    Batch,
    Changes,
    Checkpoint,
    DomainKey,
    HolderId,
    Holdings,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Prefix,
    Sealed,
    Segment,
    Served,
    holder_id,
    seal,
)
from kvplane.directory.digest import Digest
from kvplane.directory.plausible import ASIDE_S, NEW_BLOCKS_PER_S

Until = Callable[[Callable[[], bool]], Awaitable[None]]
ONE, TWO = holder_id("one"), holder_id("two")
SERVED = Served("decision", "router", "stop", 1, 0, 1, 0, 0, 0)


class ScriptedPages(MemoryPages):
    """Each time a page is followed it says the next of its scripts, and then nothing."""

    def __init__(self, scripts: dict[HolderId, Sequence[Sequence[Sealed]]]) -> None:
        super().__init__()
        self._scripts = {holder: list(script) for holder, script in scripts.items()}
        self.followed = Counter[HolderId]()

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        self.followed[holder] += 1
        script = self._scripts[holder]
        for sealed in script.pop(0) if len(script) > 1 else script[0]:
            yield sealed
        await asyncio.get_running_loop().create_future()


class BrokenPages(MemoryPages):
    """One page cannot be followed, for a reason nobody thought of."""

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        if holder == ONE:
            raise RuntimeError("a bug")
        async for sealed in super().follow(holder):
            yield sealed


class StumblingHoldings(Holdings):
    """Leaves debris instead of a batch, once, and cannot free, once, for reasons nobody thought of."""

    def __init__(self, debris: Sequence[Changes]) -> None:
        super().__init__()
        self._debris = [debris]
        self._stuck = [True]

    def apply(self, holder: HolderId, changes: Iterable[Changes]) -> None:
        if self._debris:
            super().apply(holder, self._debris.pop())
            raise RuntimeError("a bug")
        super().apply(holder, changes)

    def sweep(self, most: int) -> bool:
        if self._stuck and self._stuck.pop():
            raise RuntimeError("a bug")
        return super().sweep(most)


def mac_key(holder: HolderId, epoch: int) -> bytes:
    return f"{holder} {epoch}".encode().ljust(32)


def prompt(key: DomainKey) -> Prefix:
    return Prefix(struct.pack("<41I", *range(41)), 4, [Segment(key, 1 << 30)])


def depths(key: DomainKey, *blocks: int, level: Level = Level.GPU) -> tuple[Changes, ...]:
    return (Changes(key.tag, level, array("Q", [prompt(key).name(depth) for depth in blocks]).tobytes()),)


def digest_of(key: DomainKey, *blocks: int) -> bytes:
    digest = Digest()
    digest.add(Level.GPU, depths(key, *blocks)[0].names)
    return bytes(digest)


def batch(holder: HolderId, seq: int, changes: tuple[Changes, ...] = (), epoch: int = 1, **more: object) -> Sealed:
    message = msgspec.structs.replace(Batch(holder, epoch, seq, Load(), changes), **more)
    return seal(message, mac_key(holder, epoch))


def whole(holder: HolderId, seq: int, changes: tuple[Changes, ...] = (), epoch: int = 1) -> Sealed:
    return seal(Checkpoint(holder, epoch, seq, Load(), changes), mac_key(holder, epoch))


class Watch:
    """A mirror at work, with a clock that a test sets."""

    def __init__(self, pages: MemoryPages, holdings: Holdings | None, new_blocks_per_s: float) -> None:
        self.holdings = holdings or Holdings()
        self.now = 0.0
        self.live: Collection[HolderId] = [ONE, TWO]
        self.outcomes: list[tuple[HolderId, Served]] = []
        self.mirror = Mirror(pages, self.holdings, mac_key, self._served, lambda: self.now, new_blocks_per_s)

    def _served(self, holder: HolderId, served: Served) -> None:
        self.outcomes.append((holder, served))
        if served.decision == "poison":
            raise RuntimeError("a bug")

    def seq(self, holder: HolderId) -> int:
        seen = self.mirror.seen(holder)
        return -1 if seen is None else seen.seq

    def gpu(self, holder: HolderId, key: DomainKey) -> int:
        return self.holdings.find(prompt(key)).extents(holder)[0]


@asynccontextmanager
async def watching(
    pages: MemoryPages, holdings: Holdings | None = None, new_blocks_per_s: float = NEW_BLOCKS_PER_S
) -> AsyncIterator[Watch]:
    watch = Watch(pages, holdings, new_blocks_per_s)
    running = asyncio.create_task(watch.mirror.run(lambda: watch.live))
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def test_a_page_becomes_overlap_load_and_numbers(key: DomainKey, until: Until) -> None:
    pages = MemoryPages()
    async with watching(pages) as watch:
        unread = watch.mirror.seen(ONE)
        await pages.checkpoint(whole(ONE, 4, depths(key, 1, 2)))
        await pages.append(batch(ONE, 5, depths(key, 3), load=Load(waiting_prefill_tokens=9)))
        await until(lambda: watch.seq(ONE) == 5)
        watch.now = 1.5
        seen = watch.mirror.seen(ONE)

    assert unread is None
    assert seen is not None
    assert (seen.epoch, seen.seq, seen.blocks, seen.age_s, seen.load.waiting_prefill_tokens) == (1, 5, 3, 1.5, 9)
    assert (seen.rejected, watch.gpu(ONE, key)) == (0, 3)


async def test_a_page_is_read_anew_after_a_bug_and_the_sweep_goes_on(key: DomainKey, until: Until) -> None:
    pages, holdings = MemoryPages(), StumblingHoldings(depths(key, 1, 2, 3, 7))
    async with watching(pages, holdings) as watch:
        await pages.checkpoint(whole(ONE, 4, depths(key, 1)))
        await pages.append(batch(ONE, 5, depths(key, 2, 3)))
        await until(lambda: watch.seq(ONE) == 5)
        await until(lambda: not holdings.sweep(1))

    assert watch.mirror.errors == 2
    assert holdings.tally() == {(ONE, key.tag, Level.GPU): 3}


async def test_a_gap_costs_a_reload_of_that_page_and_no_other(key: DomainKey, until: Until) -> None:
    first = [whole(ONE, 0, depths(key, 1)), batch(ONE, 2, depths(key, 2, 3))]
    second = [whole(ONE, 1, depths(key, 1, 2)), batch(ONE, 2, depths(key, 3)), batch(ONE, 3, depths(key, 4))]
    pages = ScriptedPages({ONE: [first, second], TWO: [[whole(TWO, 0), batch(TWO, 1)]]})
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == 3 and watch.seq(TWO) == 1)
        seen = watch.mirror.seen(ONE)

    assert seen is not None
    assert (seen.gaps, seen.reloads) == (1, 1)
    assert pages.followed == {ONE: 2, TWO: 1}
    assert watch.gpu(ONE, key) == 4


async def test_a_gap_changes_nothing_until_the_page_is_read_anew(key: DomainKey, until: Until) -> None:
    pages = ScriptedPages({ONE: [[whole(ONE, 0, depths(key, 1)), batch(ONE, 2, depths(key, 2))], []], TWO: [[]]})
    async with watching(pages) as watch:
        await until(lambda: pages.followed[ONE] == 2)

        assert watch.gpu(ONE, key) == 1


async def test_a_new_epoch_replaces_all_of_the_old(key: DomainKey, until: Until) -> None:
    first = [whole(ONE, 7, depths(key, 1, 2)), batch(ONE, 1, epoch=2)]
    second = [whole(ONE, 0, depths(key, 1), epoch=2), batch(ONE, 1, epoch=2)]
    async with watching(ScriptedPages({ONE: [first, second], TWO: [[]]})) as watch:
        await until(lambda: watch.seq(ONE) == 1)

        assert watch.gpu(ONE, key) == 1


async def test_a_page_that_is_silent_is_read_anew_and_keeps_what_it_said(key: DomainKey, until: Until) -> None:
    pages = ScriptedPages({ONE: [[whole(ONE, 0, depths(key, 1))], [], [whole(ONE, 9, depths(key, 1, 2))]], TWO: [[]]})
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == 0)
        watch.now = 5.1
        await until(lambda: pages.followed[ONE] == 2)
        kept = watch.gpu(ONE, key)
        watch.now = 10.3
        await until(lambda: watch.seq(ONE) == 9)

    assert kept == 1
    assert watch.gpu(ONE, key) == 2


async def test_a_digest_that_is_not_met_heals_with_the_page_and_tells_no_outcome_twice(
    key: DomainKey, until: Until
) -> None:
    digest = digest_of(key, 1, 2, 3)
    told, grown = batch(ONE, 1, served=(SERVED,)), depths(key, 2, 3)
    first = [whole(ONE, 0, depths(key, 1)), told, batch(ONE, 2, digest=digest)]
    second = [whole(ONE, 0, depths(key, 1)), told, batch(ONE, 2, grown, digest=digest), batch(ONE, 3)]
    pages = ScriptedPages({ONE: [first, second], TWO: [[]]})
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == 3)
        seen = watch.mirror.seen(ONE)

    assert seen is not None
    assert (seen.mismatches, seen.reloads, seen.gaps, seen.behind) == (1, 1, 0, 0)
    assert watch.gpu(ONE, key) == 3
    assert watch.outcomes == [(ONE, SERVED)]


async def test_a_page_that_cannot_be_true_counts_for_nothing_until_it_can_and_costs_no_other(
    key: DomainKey, until: Until
) -> None:
    pages, fits = MemoryPages(), Load(total_blocks=2)
    for holder in (ONE, TWO):
        await pages.checkpoint(whole(holder, 0, depths(key, 1, 2)))
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == watch.seq(TWO) == 0)
        await pages.append(batch(ONE, 1, depths(key, 3), load=fits, digest=digest_of(key, 1, 2, 3)))
        await until(lambda: watch.seq(ONE) == 1)
        await pages.append(batch(ONE, 2, depths(key, 3, level=Level.NONE), load=fits, digest=digest_of(key, 1, 2)))
        await pages.append(batch(TWO, 1))
        await until(lambda: watch.seq(ONE) == 2 and watch.seq(TWO) == 1)
        aside = watch.mirror.seen(ONE), watch.gpu(ONE, key), watch.gpu(TWO, key)
        watch.now = ASIDE_S
        await pages.append(batch(ONE, 3, load=fits, digest=digest_of(key, 1, 2)))
        await until(lambda: watch.seq(ONE) == 3)
        again = watch.mirror.seen(ONE), watch.gpu(ONE, key)

    assert aside[0] is not None
    assert again[0] is not None
    assert (aside[0].aside, aside[0].implausible, aside[0].hasty, aside[0].reloads) == (True, 2, 0, 1)
    assert aside[1:] == (0, 2)
    assert (again[0].aside, again[0].mismatches, again[1]) == (False, 0, 2)


@pytest.mark.parametrize("new_blocks_per_s, hasty", [(0.0, 1), (2.0, 0)])
async def test_new_blocks_may_come_as_fast_as_a_mirror_is_told(
    key: DomainKey, until: Until, new_blocks_per_s: float, hasty: int
) -> None:
    pages, fits = MemoryPages(), Load(total_blocks=2)
    await pages.checkpoint(whole(ONE, 0))
    async with watching(pages, new_blocks_per_s=new_blocks_per_s) as watch:
        await pages.append(batch(ONE, 1, depths(key, 1, 2, level=Level.CPU), load=fits))
        await until(lambda: watch.seq(ONE) == 1)
        watch.now = 1.0
        await pages.append(batch(ONE, 2, depths(key, 3, 4, level=Level.CPU), load=fits))
        await until(lambda: watch.seq(ONE) == 2)
        seen = watch.mirror.seen(ONE)

    assert seen is not None
    assert (seen.hasty, seen.aside, seen.implausible) == (hasty, bool(hasty), 0)


async def test_what_the_departed_and_the_replaced_leave_is_swept(key: DomainKey, until: Until) -> None:
    pages = MemoryPages()
    await pages.checkpoint(whole(ONE, 0, depths(key, 1)))
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == 0)
        watch.live = []
        watch.now = 5.1
        await until(lambda: watch.gpu(ONE, key) == watch.gpu(TWO, key) == 0)

        await until(lambda: watch.holdings.bytes == 0)


async def test_who_leaves_is_heard_until_silent_then_forgotten_and_may_come_back(key: DomainKey, until: Until) -> None:
    pages = MemoryPages()
    await pages.checkpoint(whole(ONE, 0, depths(key, 1)))
    async with watching(pages) as watch:
        await until(lambda: watch.seq(ONE) == 0)
        watch.live = [TWO]
        watch.now = 4.9
        await pages.append(batch(ONE, 1, served=(SERVED,)))
        await until(lambda: watch.outcomes == [(ONE, SERVED)])
        watch.now = 9.95
        await until(lambda: watch.mirror.seen(ONE) is None)
        gone = watch.gpu(ONE, key)
        watch.live = [ONE]
        await until(lambda: watch.seq(ONE) == 1)

    assert gone == 0
    assert watch.gpu(ONE, key) == 1


async def test_a_follower_that_fails_is_counted_and_leaves_others_alone(
    key: DomainKey, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    pages = BrokenPages()
    await pages.checkpoint(whole(TWO, 0, depths(key, 1)))
    async with watching(pages) as watch:
        await until(lambda: watch.seq(TWO) == 0 and watch.mirror.errors >= 2)

        assert watch.gpu(TWO, key) == 1
    assert "the page of one is read anew" in caplog.text


async def test_an_outcome_is_told_once_and_one_that_is_refused_stops_nothing(key: DomainKey, until: Until) -> None:
    outcomes = [Served(name, "router", "stop", 1, 0, 1, 0, 0, 0) for name in ("poison", "fine")]
    page = [whole(ONE, 0), batch(ONE, 1, served=tuple(outcomes)), batch(ONE, 1, served=tuple(outcomes)), batch(ONE, 2)]
    async with watching(ScriptedPages({ONE: [page], TWO: [[]]})) as watch:
        await until(lambda: watch.seq(ONE) == 2)

    assert watch.outcomes == [(ONE, outcome) for outcome in outcomes]
    assert watch.mirror.errors == 1


async def test_what_a_holder_says_otherwise_is_its_load_until_its_page_says_more(key: DomainKey, until: Until) -> None:
    pages = MemoryPages()
    await pages.checkpoint(whole(ONE, 0))
    async with watching(pages) as watch:
        changed = watch.mirror.watch()
        watch.mirror.hear(TWO, Load(waiting_prefill_tokens=9))  # its page was never read
        await until(lambda: watch.seq(ONE) == 0)
        changed.clear()
        watch.mirror.hear(ONE, Load(waiting_prefill_tokens=9))
        heard = watch.mirror.load(ONE)
        await pages.append(batch(ONE, 1))
        await until(lambda: watch.seq(ONE) == 1)

        assert heard == (Load(waiting_prefill_tokens=9), 0.0)
        assert changed == {ONE}
        assert watch.mirror.load(ONE) != heard
        assert watch.mirror.load(TWO) is None
