"""Whatever happens to pages, writers and routers: never more than the holder last told, and exact once all is quiet."""

import asyncio
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvplane.controlplane.replay.virtual_time import LeapingLoop
from kvplane.directory import (
    Appended,
    Batch,
    HolderId,
    Holdings,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Sealed,
    holder_id,
    seal,
)
from kvplane.directory.wire import Changes
from kvplane.tests.oracle import Extents
from kvplane.tests.trees import TIERS, Prompt, Tree, key_of
from kvplane.tests.writer import Writer, digest_of, mac_key
from kvplane.workers.engine import Cleared, Removed, Tier

HOLDERS = [holder_id(f"r-{number}") for number in range(3)]
TREE = Tree(seed=3, blocks=24)
QUIET_S = 30.0

holders = st.sampled_from(HOLDERS)
mishaps = st.sampled_from(["the page is gone", "messages are missed", "a bit flips"])
numbers = st.integers(0, len(TREE.parents) - 1)
tiers: st.SearchStrategy[Tier] = st.sampled_from(TIERS)


class LossyPages(MemoryPages):
    """Loses appends and entries, and shows readers what nobody, or somebody else, or somebody long ago wrote."""

    def __init__(self, noted: Callable[[Sealed], None], is_over: Callable[[Sealed], bool]) -> None:
        super().__init__()
        self._noted = noted
        self._is_over = is_over
        self.losing: set[HolderId] = set()  # whose page is gone at the next append
        self.skipped = Counter[HolderId]()  # messages that readers will miss
        self.altered: set[HolderId] = set()  # whose next message is read with a flipped bit
        self.shown = defaultdict[HolderId, deque[tuple[Sealed, bool]]](deque)  # found behind the next; whether it lies
        self.bad = Counter[HolderId]()  # messages read that nobody should trust

    async def append(self, batch: Sealed) -> Appended:
        self._noted(batch)
        if batch.holder in self.losing:
            self.losing.remove(batch.holder)
            await self.drop(batch.holder)
        return await super().append(batch)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        self._noted(checkpoint)
        await super().checkpoint(checkpoint)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        async for sealed in super().follow(holder):
            if self.skipped[holder]:
                self.skipped[holder] -= 1
            elif holder in self.altered:
                self.altered.remove(holder)
                self.bad[holder] += 1
                yield _altered(sealed)
            else:
                yield sealed
            while self.shown[holder]:
                shown, lies = self.shown[holder].popleft()
                self.bad[holder] += lies or self._is_over(shown)
                yield shown

    def calm(self) -> None:
        """Nothing more goes wrong."""
        for planned in (self.losing, self.skipped, self.altered, self.shown):
            planned.clear()


class Directory(RuleBasedStateMachine):
    """Three writers, one store of pages that misbehaves, one mirror."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = LeapingLoop()
        self.pages = LossyPages(self.note, self.is_over)
        self.writers = {holder: Writer(holder, 1) for holder in HOLDERS}
        self.told = defaultdict[tuple[HolderId, int, int], list[list[Extents]]](list)
        self.sent = defaultdict[HolderId, list[Sealed]](list)
        self.damaged: set[HolderId] = set()  # and not healed for certain
        self.hurt: set[HolderId] = set()  # damaged at any time since the router started
        self.running: asyncio.Task[None] | None = None

    @rule(holder=holders, number=numbers, run=st.integers(1, 8), tier=tiers, at_once=st.booleans())
    def stores(self, holder: HolderId, number: int, run: int, tier: Tier, at_once: bool) -> None:
        self.writers[holder].play(TREE.stored(number, run, tier))
        self._speak(holder, int(at_once))

    @rule(holder=holders, blocks=st.lists(numbers, min_size=1, max_size=6), tier=tiers, at_once=st.booleans())
    def removes(self, holder: HolderId, blocks: list[int], tier: Tier, at_once: bool) -> None:
        self.writers[holder].play(Removed(tuple(blocks), tier))
        self._speak(holder, int(at_once))

    @rule(holder=holders, restarts=st.booleans())
    def an_engine_loses_all(self, holder: HolderId, restarts: bool) -> None:
        if restarts:
            self.writers[holder] = Writer(holder, self.writers[holder].epoch + 1)
            self.sent[holder].clear()
        else:
            self.writers[holder].play(Cleared())

    @rule(holder=holders, seconds=st.sampled_from([0.01, 0.3, 6.0]))
    def time_passes(self, holder: HolderId, seconds: float) -> None:
        self._speak(holder, 1)
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @initialize()
    def a_router_starts(self) -> None:
        self.a_router_restarts()

    @rule()
    def a_router_restarts(self) -> None:
        self._stop()
        self.pages.calm()
        self.pages.bad.clear()
        self.damaged.clear()
        self.hurt.clear()
        self.holdings = Holdings()
        self.mirror = Mirror(self.pages, self.holdings, mac_key, lambda _holder, _served: None, self.loop.time)
        self.running = self.loop.create_task(self.mirror.run(lambda: HOLDERS))
        self.loop.run_until_complete(asyncio.sleep(0.01))

    @rule(holder=holders)
    def writes_a_checkpoint(self, holder: HolderId) -> None:
        self.loop.run_until_complete(self.pages.checkpoint(self.writers[holder].whole()))

    @rule(lost=st.sampled_from([HOLDERS, *([holder] for holder in HOLDERS)]))
    def pages_are_lost(self, lost: list[HolderId]) -> None:
        for holder in lost:
            self.loop.run_until_complete(self.pages.drop(holder))

    @rule(
        holder=holders,
        number=numbers,
        mishap=mishaps,
    )
    def a_message_fares_ill(self, holder: HolderId, number: int, mishap: str) -> None:
        self._speak(holder, 1)
        match mishap:
            case "the page is gone":
                self.pages.losing.add(holder)
            case "messages are missed":
                self.pages.skipped[holder] += 1 + number % 2
            case "a bit flips":
                self.pages.altered.add(holder)
        for block in (number, number // 2, number // 3):
            self.writers[holder].play(TREE.stored(block, 8))
            self._speak(holder, 1)

    @rule(holder=holders, kind=st.sampled_from(["forged", "of another", "of an epoch that is over", "unknown version"]))
    def a_lie_is_shown(self, holder: HolderId, kind: str) -> None:
        self._speak(holder, 1)
        seen = self.mirror.seen(holder)
        if seen is None:
            return
        other, prompt = HOLDERS[HOLDERS.index(holder) - 1], TREE.prompts[0]
        claim = _spoken(prompt, range(1, prompt.prefix.blocks + 1), Level.GPU)
        lie = Batch(holder, seen.epoch, seen.seq + 2, Load(), (claim,))
        lies = {
            "forged": seal(lie, b"x" * 32),
            "of another": seal(msgspec.structs.replace(lie, holder=other), mac_key(other, seen.epoch)),
            "of an epoch that is over": seal(msgspec.structs.replace(lie, epoch=0), mac_key(holder, 0)),
            "unknown version": seal(msgspec.structs.replace(lie, version=9), mac_key(holder, seen.epoch)),
        }
        self.pages.shown[holder].append((lies[kind], True))
        self._speak(holder, 1)

    @rule(holder=holders, back=st.integers(1, 9))
    def an_old_message_is_shown_again(self, holder: HolderId, back: int) -> None:
        self.pages.shown[holder].extend((sealed, False) for sealed in self.sent[holder][-back:][:1])
        self._speak(holder, 2)

    @rule(holder=holders, prompt=st.sampled_from(TREE.prompts), level=st.sampled_from(Level))
    def a_table_is_damaged(self, holder: HolderId, prompt: Prompt, level: Level) -> None:
        if self.mirror.seen(holder) is not None:
            self.damaged.add(holder)
            self.hurt.add(holder)
            self.holdings.apply(holder, [_spoken(prompt, [1], level)])

    @rule()
    def all_is_quiet(self) -> None:
        self.pages.calm()
        self.loop.run_until_complete(self._quiet())
        self.damaged.clear()

        for holder, writer in self.writers.items():
            seen = self.mirror.seen(holder)
            assert seen is not None
            assert self._found(holder) == self._held(holder)
            assert self.holdings.digest(holder) == self.holdings.recount(holder) == digest_of(writer.closure.holding())
            assert (seen.epoch, seen.seq, seen.behind) == (writer.epoch, writer.seq, 0)
            assert seen.rejected == self.pages.bad[holder]
            assert holder in self.hurt or not seen.mismatches
        assert self.mirror.errors == 0

    @invariant()
    def a_holder_counts_as_it_last_told(self) -> None:
        for holder in HOLDERS:
            seen, found = self.mirror.seen(holder), self._found(holder)
            if seen is None:
                assert not any(map(any, found))
            elif holder not in self.damaged:
                assert found in self.told[holder, seen.epoch, seen.seq]

    def teardown(self) -> None:
        try:
            if self.running is not None:
                self.all_is_quiet()
        finally:
            self._stop()
            self.loop.close()

    def note(self, sealed: Sealed) -> None:
        self.told[sealed.holder, sealed.epoch, sealed.seq].append(self._held(sealed.holder))
        self.sent[sealed.holder].append(sealed)

    def is_over(self, sealed: Sealed) -> bool:
        """Of an epoch before the one that the router knows."""
        seen = self.mirror.seen(sealed.holder)
        return seen is not None and sealed.epoch < seen.epoch

    async def _quiet(self) -> None:
        """Heartbeats, until all of them have arrived and add up."""
        async with asyncio.timeout(QUIET_S):
            while True:
                for writer in self.writers.values():
                    await writer.flush(self.pages)
                await asyncio.sleep(0.25)
                if all(self._settled(writer) for writer in self.writers.values()):
                    return

    def _speak(self, holder: HolderId, times: int) -> None:
        for _ in range(times):
            self.loop.run_until_complete(self.writers[holder].flush(self.pages))
            self.loop.run_until_complete(asyncio.sleep(0.001))

    def _settled(self, writer: Writer) -> bool:
        seen = self.mirror.seen(writer.holder)
        arrived = seen is not None and (seen.epoch, seen.seq) == (writer.epoch, writer.seq)
        return arrived and self.holdings.digest(writer.holder) == writer.closure.digest

    def _found(self, holder: HolderId) -> list[Extents]:
        return [self.holdings.find(prompt.prefix).extents(holder) for prompt in TREE.prompts]

    def _held(self, holder: HolderId) -> list[Extents]:
        return [self.writers[holder].oracle.extents(prompt.words, prompt.salt) for prompt in TREE.prompts]

    def _stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            self.loop.run_until_complete(asyncio.wait([self.running]))


def _altered(sealed: Sealed) -> Sealed:
    body = bytearray(sealed.body)
    body[len(body) // 2] ^= 1
    return msgspec.structs.replace(sealed, body=bytes(body))


def _spoken(prompt: Prompt, depths: Iterable[int], level: Level) -> Changes:
    names = array("Q", [prompt.prefix.name(depth) for depth in depths])
    return Changes(key_of(prompt.salt).tag, level, names.tobytes())


TestDirectory = Directory.TestCase
TestDirectory.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, derandomize=True, database=None
)
