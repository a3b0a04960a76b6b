"""Ten thousand each of what whoever can write to a page may try: none of it is believed, and nothing true is lost."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random

import msgspec
import pytest

from kvplane.directory import (
    Batch,
    Changes,
    Checkpoint,
    HolderId,
    Holdings,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Sealed,
    Served,
    holder_id,
    seal,
)
from kvplane.directory.wire import MAX_BODY_BYTES, Message
from kvplane.tests.writer import mac_key

Until = Callable[[Callable[[], bool]], Awaitable[None]]
Forge = Callable[[int, Random], Sealed]  # what comes behind the honest message of that seq

ONE, TWO = holder_id("one"), holder_id("two")
EPOCH, BATCHES, EACH = 2, 40, 250
LIE = Changes("f" * 16, Level.GPU, array("Q", range(1000, 1100)).tobytes())
HUGE = bytes(MAX_BODY_BYTES + 1)


def honest(holder: HolderId, seq: int, epoch: int = EPOCH) -> Sealed:
    """Of a page on which blocks come and go, and requests end."""
    come = Changes("a" * 16, Level.GPU, array("Q", range(3 * seq, 3 * seq + 3)).tobytes())
    gone = Changes("a" * 16, Level.NONE, array("Q", [max(0, 3 * seq - 5)]).tobytes())
    load = Load(waiting_prefill_tokens=seq, total_blocks=500)
    if not seq:
        return seal(Checkpoint(holder, epoch, seq, load, (come,)), mac_key(holder, epoch))
    return seal(Batch(holder, epoch, seq, load, (gone, come), (served(f"{holder} {seq}"),)), mac_key(holder, epoch))


def lie(holder: HolderId, epoch: int, seq: int, whole: bool = False) -> Message:
    load = Load(free_blocks=1 << 40, total_blocks=1 << 40)
    if whole:
        return Checkpoint(holder, epoch, seq, load, (LIE,))
    return Batch(holder, epoch, seq, load, (LIE,), (served("never"),))


def served(decision: str) -> Served:
    return Served(decision, "router", "stop", 9, 8, 1, 0, 0, 0)


def of_a_wrong_key(seq: int, random: Random) -> Sealed:
    return seal(lie(ONE, EPOCH, seq + 1, random.random() < 0.5), random.randbytes(32))


def flipped(seq: int, random: Random) -> Sealed:
    """The very message that comes next, but for one bit."""
    sealed = honest(ONE, seq + 1)
    body, bit = bytearray(sealed.body), random.randrange(8 * len(sealed.body))
    body[bit // 8] ^= 1 << bit % 8
    return msgspec.structs.replace(sealed, body=bytes(body))


def replayed(seq: int, random: Random) -> Sealed:
    return honest(ONE, random.randint(0, seq))


def of_an_epoch_that_is_over(_seq: int, random: Random) -> Sealed:
    return honest(ONE, random.randint(0, BATCHES), EPOCH - 1)


def signed_with_an_older_key(seq: int, random: Random) -> Sealed:
    """The key that leaked was good once; what it signs says that it is of this epoch, or of one to come."""
    message = lie(ONE, EPOCH + random.randint(0, 1), seq + 1, random.random() < 0.5)
    return seal(message, mac_key(ONE, EPOCH - 1))


def of_another_replica(seq: int, random: Random) -> Sealed:
    """One that is registered, and signs with its own key; half of the time it says that it is this one."""
    told, claimed = lie(TWO, EPOCH, seq + 1), lie(ONE, EPOCH, seq + 1)
    sealed = seal(random.choice([told, claimed]), mac_key(TWO, EPOCH))
    return msgspec.structs.replace(sealed, holder=random.choice([ONE, TWO]))


def renumbered(seq: int, random: Random) -> Sealed:
    """A message of this page that says outside that it comes next."""
    return msgspec.structs.replace(honest(ONE, random.randint(0, seq)), seq=seq + 1)


def unreadable(seq: int, random: Random) -> Sealed:
    """Signed, in a version that is not known; or nothing at all."""
    later = msgspec.structs.replace(lie(ONE, EPOCH, seq + 1), version=9)
    return random.choice([seal(later, mac_key(ONE, EPOCH)), Sealed(ONE, EPOCH, seq + 1, b"")])


def oversized(seq: int, _random: Random) -> Sealed:
    return Sealed(ONE, EPOCH, seq + 1, HUGE)


REFUSED: Sequence[Forge] = (
    of_a_wrong_key,
    flipped,
    of_an_epoch_that_is_over,
    signed_with_an_older_key,
    of_another_replica,
    renumbered,
    unreadable,
    oversized,
)


class TamperedPages(MemoryPages):
    """Behind each honest message of ONE's page stands what an attacker wrote, the first time that it is read."""

    def __init__(self, forge: Forge, early: bool = False) -> None:
        super().__init__()
        self._forge = forge
        self._early = early
        self._random = Random(7)
        self._tampered: set[int] = set()
        self._before: object = None
        self.look: Callable[[], object] = lambda: None
        self.unchanged: list[bool] = []

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        if holder == ONE and self._before is not None:  # a gap had the page read anew
            self._compare()
        async with aclosing(super().follow(holder)) as messages:
            async for sealed in messages:
                yield sealed
                if holder == ONE and sealed.seq not in self._tampered:
                    self._tampered.add(sealed.seq)
                    self._before = self.look()
                    for _ in range(EACH):
                        yield self._forge(sealed.seq, self._random)
                    if self._early:
                        yield honest(ONE, sealed.seq + 2)
                    self._compare()

    def _compare(self) -> None:
        self.unchanged.append(self.look() == self._before)
        self._before = None


class CountedPages(MemoryPages):
    """Counts the messages that were read and dealt with."""

    def __init__(self) -> None:
        super().__init__()
        self.dealt_with = 0

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        async with aclosing(super().follow(holder)) as messages:
            async for sealed in messages:
                yield sealed
                self.dealt_with += 1


class Router:
    """A mirror, and all that it knows, to the bit."""

    def __init__(self, pages: MemoryPages) -> None:
        self.live: Sequence[HolderId] = [TWO]
        self.outcomes: list[tuple[HolderId, str]] = []
        self._holdings = Holdings()
        self.mirror = Mirror(pages, self._holdings, mac_key, self._served, lambda: 0.0)

    def _served(self, holder: HolderId, outcome: Served) -> None:
        self.outcomes.append((holder, outcome.decision))

    def knows(self) -> object:
        held = [(self._holdings.digest(each), self._holdings.recount(each)) for each in (ONE, TWO)]
        loads = [self.mirror.load(each) for each in (ONE, TWO)]
        return held, self._holdings.tally(), loads, tuple(self.outcomes)

    def at(self, holder: HolderId) -> int:
        seen = self.mirror.seen(holder)
        return -1 if seen is None else seen.seq


@asynccontextmanager
async def reading(pages: MemoryPages, until: Until) -> AsyncIterator[Router]:
    """A router that has read both pages whole, the tampered one last."""
    router = Router(pages)
    if isinstance(pages, TamperedPages):
        pages.look = router.knows
    for holder in (ONE, TWO):
        await pages.checkpoint(honest(holder, 0))
        for seq in range(1, BATCHES + 1):
            await pages.append(honest(holder, seq))
    running = asyncio.create_task(router.mirror.run(lambda: router.live))
    try:
        await until(lambda: router.at(TWO) == BATCHES)
        router.live = [ONE, TWO]
        await until(lambda: router.at(ONE) == BATCHES)
        yield router
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
async def truth(until: Until) -> object:
    """What a router knows whose pages nobody tampers with."""
    async with reading(MemoryPages(), until) as router:
        return router.knows()


@pytest.mark.parametrize("forge", REFUSED, ids=lambda forge: forge.__name__)
async def test_what_is_forged_changes_nothing_and_is_counted(forge: Forge, truth: object, until: Until) -> None:
    pages = TamperedPages(forge)
    async with reading(pages, until) as router:
        await until(lambda: len(pages.unchanged) == BATCHES + 1)
        knows, seen = router.knows(), router.mirror.seen(ONE)

    assert all(pages.unchanged)
    assert knows == truth
    assert seen is not None
    assert (seen.rejected, seen.gaps, seen.reloads) == (EACH * (BATCHES + 1), 0, 0)


@pytest.mark.parametrize("early", [False, True], ids=["replayed", "reordered"])
async def test_what_is_told_again_or_out_of_order_changes_nothing(early: bool, truth: object, until: Until) -> None:
    """What comes too early makes a gap, and the page is read anew: once for each time."""
    pages = TamperedPages(replayed, early)
    async with reading(pages, until) as router:
        await until(lambda: len(pages.unchanged) == BATCHES + 1)
        knows, seen = router.knows(), router.mirror.seen(ONE)

    assert all(pages.unchanged)
    assert knows == truth
    assert seen is not None
    assert (seen.rejected, seen.gaps) == (0, (BATCHES + 1) * early)


async def test_a_page_whose_writer_has_the_key_of_an_older_epoch_is_not_read_at_all(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    pages = CountedPages()
    router = Router(pages)
    await pages.checkpoint(seal(lie(TWO, EPOCH, 0, whole=True), mac_key(TWO, EPOCH - 1)))
    await pages.append(seal(lie(TWO, EPOCH, 1), mac_key(TWO, EPOCH - 1)))
    nothing = router.knows()
    running = asyncio.create_task(router.mirror.run(lambda: router.live))
    await until(lambda: pages.dealt_with == 2)
    running.cancel()
    await asyncio.wait([running])

    assert router.knows() == nothing
    assert router.mirror.seen(TWO) is None
    assert "the signature does not verify" in caplog.text
