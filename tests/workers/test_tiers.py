"""Random histories of a pool with tiers below it: what is told is there, and what is fetched is what was computed."""

import random
import struct
from collections import Counter
from collections.abc import Sequence

import pytest

from kvplane.directory import Closure, HolderId, Holdings, Prefix, Segment, domain_key
from kvplane.tests.workers.disks import FakeDisk, Gpu, idle, running
from kvplane.workers.block_pool import BlockPool, Table
from kvplane.workers.engine import EngineEvent, Public, Removed, Stored
from kvplane.workers.offload import LEAVING, Offload
from kvplane.workers.vllm_events import translate

GPU, CPU, DISK = 8, 4, 16  # blocks
SIZE = 2  # tokens
ME = HolderId("me")
KEYS = {salt: domain_key(salt, "model", "", SIZE) for salt in ("a", "b", "public")}
OVERWRITTEN = -1.0
OPERATIONS = (*["open"] * 5, *["go on"] * 4, *["release"] * 5, *["wait"] * 3, "lose", "close the disk")


class Directory:
    """What a router knows, having been told all."""

    def __init__(self) -> None:
        self._closure = Closure(KEYS.__getitem__, SIZE)
        self._holdings = Holdings()
        self.copies: Counter[str] = Counter()

    def hear(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            match event:
                case Stored():
                    self._closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
                    self.copies[event.tier] += len(event.hashes)
                case Removed():
                    self._closure.remove(event.hashes, event.tier)
                    self.copies[event.tier] -= len(event.hashes)
        self._holdings.apply(ME, self._closure.drain())

    def extents(self, table: Table) -> tuple[int, int, int]:
        segments = [Segment(KEYS[table.salt], 1 << 30)]
        if table.public:
            segments.insert(0, Segment(KEYS[table.public.salt], table.public.blocks))
        return self._holdings.find(Prefix(bytes(table.words), SIZE, segments)).extents(ME)


class World:
    """An engine without a model: a block holds a number that follows from its digest."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.disk = FakeDisk()
        self.below = Offload(CPU, DISK, self.disk)
        self.pool = BlockPool(GPU, SIZE, self.below)
        self.gpu = Gpu(GPU)
        self.directory = Directory()
        self.asked: list[Table] = []
        self.running: list[Table] = []
        self.fetched = 0

    def table(self) -> Table:
        blocks = self.chance.choices(([1, 1], [0, 1]), k=5)
        tokens = [token for block in blocks for token in block][: self.chance.randrange(1, 10)]
        public = 2 if tokens[:4] == [1, 1, 0, 1] else 1 if tokens[:2] == [1, 1] else 0
        words = bytearray(struct.pack(f"<{len(tokens)}I", *tokens))
        return Table(self.chance.choice("ab"), words, public=Public("public", public) if public else None)

    def open(self) -> None:
        table = self.table()
        self.hear()
        gpu, cpu, disk = self.directory.extents(table)
        self.asked.append(Table(table.salt, table.words, public=table.public))
        if not self.pool.open(table):
            return
        self.running.append(table)
        coming, read = (table.coming.blocks, table.coming.read) if table.coming else ((), ())
        assert table.stored == gpu
        assert table.stored + len(coming) == disk
        assert table.stored + (list(coming).index(read[0]) if read else len(coming)) == cpu
        if not table.coming:
            self.compute(table, gpu)

    def go_on(self) -> None:
        for table in self.running:
            if table.coming and (depth := self.pool.fill(table)) is not None:
                self.fetched += depth - table.stored
                self.compute(table, depth)

    def compute(self, table: Table, depth: int) -> None:
        """A step: moves, then all blocks from `depth` on."""
        self.gpu.step(self.below)
        full = table.tokens // SIZE
        self.gpu.blocks[table.blocks[depth:]] = OVERWRITTEN
        self.pool.cached_tokens(table)
        for place in range(depth, full):
            self.gpu.blocks[table.blocks[place]] = computed(table, place)
        self.pool.store(table, table.tokens)

    def hear(self) -> None:
        self.directory.hear(translate(self.pool.take_events()))

    def check(self) -> None:
        self.hear()
        for table in self.running:
            for place in range(table.stored):
                assert self.gpu.blocks[table.blocks[place]].item() == computed(table, place)
        for asked in self.asked[-10:]:
            asked.cached = 0
            assert self.pool.cached_tokens(asked) == SIZE * self.directory.extents(asked)[2]
        assert self.directory.copies["cpu"] <= CPU + LEAVING
        assert self.disk.most <= DISK


def computed(table: Table, place: int) -> float:
    """What the model would put into a block, of which it sees all before and the salts."""
    public = table.public
    salts = (table.salt,) if public is None else (public.salt, *((table.salt,) if place >= public.blocks else ()))
    return float(hash((salts, bytes(table.words[: (place + 1) * SIZE * 4]))) % 1_000_003)


@pytest.mark.parametrize("seed", range(12))
async def test_the_directory_knows_each_tier_and_blocks_are_what_was_computed(seed: int) -> None:
    world = World(random.Random(seed))
    async with running(world.below):
        for _ in range(400):
            match world.chance.choice(OPERATIONS):
                case "open":
                    world.open()
                case "go on":
                    world.go_on()
                case "release" if world.running:
                    world.pool.release(world.running.pop(world.chance.randrange(len(world.running))))
                case "wait":
                    world.disk.open.set()
                    world.gpu.step(world.below)
                    await idle()
                    world.hear()
                    assert world.directory.copies["cpu"] <= CPU
                case "lose" if world.disk.files and world.chance.random() < 0.2:
                    del world.disk.files[world.chance.choice(list(world.disk.files))]
                case "close the disk":
                    world.disk.open.clear()
            world.check()

    assert world.fetched > 5
