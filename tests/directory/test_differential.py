"""A hundred thousand events of sixteen engines, through crashes and losses, leave no difference to an oracle."""

import asyncio
import json
from collections.abc import AsyncGenerator
from random import Random

import pytest

from kvplane.controlplane.replay.virtual_time import LeapingLoop
from kvplane.directory import Appended, Holdings, MemoryPages, Mirror, Sealed, holder_id
from kvplane.directory.ids import HolderId
from kvplane.tests.oracle import Extents
from kvplane.tests.trees import Prompt, Tree
from kvplane.tests.writer import Writer, digest_of, mac_key
from kvplane.workers.engine import Removed, Stored

HOLDERS = [holder_id(f"r-{number}") for number in range(16)]
EVENTS = 100_000
QUIET_S = 60.0
NOTHING: Extents = (0, 0, 0)


class ForgetfulPages(MemoryPages):
    """Now and then a page is gone, or its readers miss a message."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance

    async def append(self, batch: Sealed) -> Appended:
        if self._chance.random() < 0.01:
            await self.drop(batch.holder)
        return await super().append(batch)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        async for sealed in super().follow(holder):
            if self._chance.random() > 0.01:
                yield sealed


class Fleet:
    """Sixteen writers and a router, all of which crash."""

    def __init__(self, loop: LeapingLoop, seed: int) -> None:
        self.chance = Random(seed)
        self.tree = Tree(seed, blocks=96)
        self.writers = {holder: Writer(holder, 1) for holder in HOLDERS}
        self.pages = ForgetfulPages(self.chance)
        self._loop = loop
        self._running: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """One event of one engine, which may be told at once, and whatever else happens now and then."""
        writer = self.writers[self.chance.choice(HOLDERS)]
        writer.play(self.tree.random_event(self.chance))
        dice = self.chance.random()
        if dice < 0.3:
            await writer.flush(self.pages)
        elif dice < 0.35:
            await self.pages.checkpoint(writer.whole())
        elif dice < 0.351:
            self.writers[writer.holder] = Writer(writer.holder, writer.epoch + 1)
        elif dice < 0.3515:
            await self.start_router()
        if dice < 0.02:
            await asyncio.sleep(0.05)

    async def start_router(self) -> None:
        await self.stop_router()
        self.holdings = Holdings()
        self.mirror = Mirror(self.pages, self.holdings, mac_key, lambda _holder, _served: None, self._loop.time)
        self._running = self._loop.create_task(self.mirror.run(lambda: HOLDERS))

    async def stop_router(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def settle(self) -> None:
        """Heartbeats, until all of them have arrived."""
        async with asyncio.timeout(QUIET_S):
            while True:
                for writer in self.writers.values():
                    await writer.flush(self.pages)
                await asyncio.sleep(0.25)
                seen = {holder: self.mirror.seen(holder) for holder in HOLDERS}
                if all(page and (page.epoch, page.seq) == self._place(holder) for holder, page in seen.items()):
                    return

    def differences(self) -> list[tuple[Prompt, HolderId, Extents, Extents]]:
        """Where a look-up of some prompts, for all or for the four best, is not what the oracles say."""
        return [
            (prompt, holder, found, held)
            for prompt in self.chance.sample(self.tree.prompts, 12)
            for holder, found, held in self._answers(prompt)
            if found != held
        ]

    def mismatches(self) -> int:
        """Digests that were not met: only damage may bring them about, and nothing was damaged."""
        return sum(seen.mismatches for seen in map(self.mirror.seen, HOLDERS) if seen)

    def _answers(self, prompt: Prompt) -> list[tuple[HolderId, Extents, Extents]]:
        best = self.holdings.find(prompt.prefix, k=4)
        exact, near = self.holdings.find(prompt.prefix).table(), best.table()
        answers = []
        for holder, writer in self.writers.items():
            held = writer.oracle.extents(prompt.words, prompt.salt)
            answers.append((holder, exact.get(holder, NOTHING), held))
            if holder in near or held[-1] > best.bound:
                answers.append((holder, near.get(holder, NOTHING), held))
        return answers

    def _place(self, holder: HolderId) -> tuple[int, int]:
        return self.writers[holder].epoch, self.writers[holder].seq


@pytest.mark.timeout(120)
def test_a_hundred_thousand_events_with_crashes_and_losses_leave_no_difference() -> None:
    async def play() -> None:
        await fleet.start_router()
        for number in range(1, EVENTS + 1):
            await fleet.step()
            if number % 100 == 0:
                await fleet.settle()

                assert fleet.differences() == []
                assert fleet.mismatches() == 0
        for holder, writer in fleet.writers.items():
            assert (
                fleet.holdings.digest(holder) == fleet.holdings.recount(holder) == digest_of(writer.closure.holding())
            )
        await fleet.stop_router()

    loop = LeapingLoop()
    fleet = Fleet(loop, seed=7)
    loop.run_until_complete(play())
    loop.close()


class TailFirst:
    """One worker's cache without duplicates: a block goes only when nothing stands behind it."""

    def __init__(self, tree: Tree, chance: Random) -> None:
        self._tree = tree
        self._chance = chance
        self.held: set[int] = set()

    def event(self) -> Stored | Removed:
        """A prompt is stored as far as it is missing, or some ends of what is held are removed."""
        chance, tree = self._chance, self._tree
        inner = {tree.parents[block] for block in self.held}
        ends = sorted(self.held - inner)
        if ends and chance.random() < 0.6:
            gone = chance.sample(ends, k=min(len(ends), chance.randrange(1, 4)))
            self.held.difference_update(gone)
            return Removed(tuple(gone))
        path = tree.path(chance.randrange(len(tree.parents)))
        missing = [block for block in path if block not in self.held]
        self.held.update(missing)
        return tree.stored(path[-1], len(missing)) if missing else Removed(())


def test_it_agrees_with_a_peers_radix_tree_on_what_both_mean_alike() -> None:
    peer = pytest.importorskip("dynamo._core").RadixTree()
    chance = Random(11)
    tree = Tree(seed=11, blocks=96, twins=0)
    writers = {holder: Writer(holder, 1) for holder in HOLDERS}
    caches = [TailFirst(tree, chance) for _ in HOLDERS]
    table = Holdings()
    for number in range(10_000):
        worker = chance.randrange(len(HOLDERS))
        event, writer = caches[worker].event(), writers[HOLDERS[worker]]
        writer.play(event)
        table.apply(writer.holder, writer.closure.drain())
        peer.apply_event(worker, told_to_peer(number, event))
        if number % 100 == 0:
            for prompt, end in zip(tree.prompts, tree.ends, strict=False):
                scores = peer.find_matches(tree.path(end)).scores
                theirs = {HOLDERS[worker]: score for (worker, _), score in scores.items()}

                assert {holder: gpu for holder, (gpu, _, _) in table.find(prompt.prefix).table().items()} == theirs


def told_to_peer(number: int, event: Stored | Removed) -> bytes:
    """The event in the peer's own words. Its hash of a block's content is the block's number, which is as unique."""
    match event:
        case Stored():
            blocks = [{"block_hash": block, "tokens_hash": block} for block in event.hashes]
            data: object = {"stored": {"parent_hash": event.parent, "blocks": blocks}}
        case Removed():
            data = {"removed": {"block_hashes": event.hashes}}
    return json.dumps({"event_id": number, "data": data, "dp_rank": 0}).encode()
