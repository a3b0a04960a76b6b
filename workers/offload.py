"""The tiers below the gpu: what is evicted there sinks into memory, from there to disk, and is fetched when asked for.

A block fetched stays where it was, so it sinks again without being written again. Everything but the disk's reads and
writes happens on the event loop, between steps. A block that a disk loses, refuses or spoils is a miss.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .content import Content, removed, stored
from .fetch_costs import Below, FetchCosts
from .model_folder import Array
from .vllm_events import VllmEvent

LEAVING = 128  # blocks in memory on their way to disk, at most: where it is slower than evictions, blocks are lost


class Disk(Protocol):
    """Blocks by their digests, as long as it has them."""

    async def write(self, digest: bytes, kv: Array) -> bool:
        """Keep a block; False if it will not be kept."""
        ...

    async def remove(self, digest: bytes) -> None:
        """Free its room; unknown ones are fine."""
        ...

    async def read(self, digests: Sequence[bytes]) -> Sequence[Array]:
        """Bring blocks back, up to the first that is not there as it was written."""
        ...


@dataclass(slots=True, eq=False)
class Kept:
    """A block in memory. Its keys and values come with the step that overwrites them above, or from disk."""

    content: Content
    kv: Array | None = field(default=None, repr=False)
    lent: bool = False  # to a fetch


@dataclass(slots=True, eq=False)
class Fetch:
    """A sequence's next blocks, on their way into the gpu tier."""

    blocks: Sequence[Kept]
    read: Sequence[Kept]  # those of them that come from disk
    depth: int | None  # how many blocks have come; None: they are being read
    dropped: bool = False  # nobody waits for it


@dataclass(frozen=True, slots=True)
class Moves:
    """What precedes a step's computation: first blocks are copied out that it may overwrite, then others filled."""

    copies: Sequence[tuple[int, Kept]] = ()
    fills: Sequence[tuple[Kept, int]] = ()


class Offload:
    """So many blocks in memory and so many on disk, each tier's least recently used the next to go."""

    def __init__(
        self,
        cpu_blocks: int,
        disk_blocks: int = 0,
        disk: Disk | None = None,
        costs: FetchCosts | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.events: list[VllmEvent] = []  # of the gpu tier too, which appends its own
        self._cpu_blocks = cpu_blocks
        self._disk_blocks = disk_blocks if disk else 0
        self._files = disk
        self._costs = costs or FetchCosts()
        self._clock = clock
        self._cpu: OrderedDict[bytes, Kept] = OrderedDict()  # the next to go stands first
        self._leaving: dict[bytes, Kept] = {}  # for the disk; told to be in memory until they are there
        self._disk: OrderedDict[bytes, Content] = OrderedDict()
        self._copies: list[tuple[int, Kept]] = []
        self._fills: list[tuple[Kept, int]] = []
        self._sunk: list[Kept] = []  # to be written once their keys and values are there
        self._writes: asyncio.Queue[Kept | bytes] = asyncio.Queue()  # or a digest, to be removed
        self._reads: asyncio.Queue[Fetch] = asyncio.Queue()

    def __contains__(self, digest: bytes) -> bool:
        return self._tier(digest) is not None

    def sink(self, content: Content, block: int) -> None:
        """Take in what the next step may overwrite, and is nowhere else in the gpu tier."""
        if content.digest in self._leaving:
            return
        if content.digest not in self._cpu:
            kept = self._cpu[content.digest] = Kept(content)
            self._copies.append((block, kept))
            self.events.append(stored([content], "cpu"))
        self._cpu.move_to_end(content.digest)
        if len(self._cpu) > self._cpu_blocks:
            self._overflow()

    def fetch(self, digests: Sequence[bytes]) -> Fetch | None:
        """Bring the leading blocks that are here, as far as that is quicker than to compute them; None: not at all."""
        tiers: list[Below] = []
        for digest in digests:
            if (tier := self._tier(digest)) is None:
                break
            tiers.append(tier)
        depth = self._costs.depth(tiers)
        if not depth:
            return None
        for digest in reversed(digests[:depth]):  # a prefix outlives what follows it
            for held in (self._cpu, self._disk):
                if digest in held:
                    held.move_to_end(digest)
        blocks = [self._lend(digest) for digest in digests[:depth]]
        read = [kept for kept, tier in zip(blocks, tiers, strict=False) if tier == "disk"]
        fetch = Fetch(blocks, read, None if read else depth)
        if read:
            self._reads.put_nowait(fetch)
        return fetch

    def fill(self, kept: Kept, block: int) -> None:
        """Have the next step begin with a fetched block's keys and values in a block of the gpu tier."""
        self._fills.append((kept, block))

    def take_moves(self) -> Moves:
        """Hand over what must precede the step that is computed next."""
        copies = [(block, kept) for block, kept in self._copies if kept.lent or self._holds(kept)]
        moves = Moves(copies, self._fills)
        self._copies, self._fills = [], []
        return moves

    def moved(self) -> None:
        """Go on with what has been copied out by a step."""
        for kept in self._sunk:
            self._writes.put_nowait(kept)
        self._sunk.clear()

    def clear(self) -> None:
        """Forget all."""
        for digest in self._disk:
            self._writes.put_nowait(digest)
        for held in (self._cpu, self._leaving, self._disk, self._sunk):
            held.clear()

    async def run(self, news: Callable[[], None]) -> None:
        """Read and write until cancelled; `news` is called when there is something to tell or to go on with."""
        if self._files is None:
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write_all(self._files, news))
                tasks.create_task(self._read_all(self._files, news))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    def _tier(self, digest: bytes) -> Below | None:
        if digest in self._cpu or digest in self._leaving:
            return "cpu"
        return "disk" if digest in self._disk else None

    def _holds(self, kept: Kept) -> bool:
        digest = kept.content.digest
        return self._cpu.get(digest) is kept or self._leaving.get(digest) is kept

    def _lend(self, digest: bytes) -> Kept:
        kept = self._cpu.get(digest) or self._leaving.get(digest) or Kept(self._disk[digest])
        kept.lent = True
        return kept

    def _overflow(self) -> None:
        digest, kept = self._cpu.popitem(last=False)
        if digest in self._disk:
            self._disk.move_to_end(digest)
        elif self._disk_blocks and len(self._leaving) < LEAVING:
            self._leaving[digest] = kept
            self._sunk.append(kept)
            return
        self.events.append(removed(kept.content, "cpu"))

    async def _write_all(self, files: Disk, news: Callable[[], None]) -> None:
        while True:
            match await self._writes.get():
                case Kept() as kept:
                    await self._write(files, kept)
                    news()
                case digest:
                    await files.remove(digest)

    async def _write(self, files: Disk, kept: Kept) -> None:
        content = kept.content
        while len(self._disk) >= self._disk_blocks:  # first, so that there are never more files
            await self._lose(files, next(iter(self._disk.values())))
        assert kept.kv is not None, "what has sunk was copied out"
        written = await files.write(content.digest, kept.kv)
        if self._leaving.get(content.digest) is not kept:
            await files.remove(content.digest)  # all was forgotten in the meantime
            return
        del self._leaving[content.digest]
        if written:
            self._disk[content.digest] = content
            self.events.append(stored([content], "disk"))
        self.events.append(removed(content, "cpu"))

    async def _read_all(self, files: Disk, news: Callable[[], None]) -> None:
        while True:
            fetch = await self._reads.get()
            if not fetch.dropped:
                await self._read(files, fetch)
                news()

    async def _read(self, files: Disk, fetch: Fetch) -> None:
        began = self._clock()
        found = await files.read([kept.content.digest for kept in fetch.read])
        for kept, kv in zip(fetch.read, found, strict=False):
            kept.kv = kv
        if found:
            self._costs.read(len(found) * len(fetch.read[0].content.words) // 4, self._clock() - began)
        fetch.depth = len(fetch.blocks)
        if len(found) < len(fetch.read):
            bad = fetch.read[len(found)]
            fetch.depth = fetch.blocks.index(bad)
            await self._lose(files, bad.content)

    async def _lose(self, files: Disk, content: Content) -> None:
        if self._disk.pop(content.digest, None):
            self.events.append(removed(content, "disk"))
            await files.remove(content.digest)
