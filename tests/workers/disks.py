"""A disk in memory, and a gpu tier whose blocks hold a number each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from kvplane.workers.model_folder import Array
from kvplane.workers.offload import Moves, Offload


class FakeDisk:
    """Keeps what it is given; a test may take it away, or have it refuse."""

    def __init__(self) -> None:
        self.files: dict[bytes, Array] = {}
        self.most = 0  # files there ever were
        self.written = 0
        self.full = False
        self.open = asyncio.Event()  # reads wait for it
        self.open.set()

    async def write(self, digest: bytes, kv: Array) -> bool:
        if self.full:
            return False
        self.files[digest] = kv
        self.written += 1
        self.most = max(self.most, len(self.files))
        return True

    async def remove(self, digest: bytes) -> None:
        self.files.pop(digest, None)

    async def read(self, digests: Sequence[bytes]) -> Sequence[Array]:
        await self.open.wait()
        found: list[Array] = []
        for digest in digests:
            if digest not in self.files:
                break
            found.append(self.files[digest])
        return found


class Gpu:
    """Makes moves as a model would."""

    def __init__(self, blocks: int) -> None:
        self.blocks = np.zeros((blocks, 1), np.float32)

    def move(self, moves: Moves) -> None:
        for block, kept in moves.copies:
            kept.kv = self.blocks[block].copy()
        for kept, block in moves.fills:
            assert kept.kv is not None
            self.blocks[block] = kept.kv

    def step(self, below: Offload) -> None:
        """A step that computes nothing."""
        self.move(below.take_moves())
        below.moved()


@asynccontextmanager
async def running(below: Offload) -> AsyncIterator[None]:
    """Let a disk be read and written for the length of the block."""
    tasks = asyncio.create_task(below.run(lambda: None))
    try:
        yield
        assert not tasks.done()
    finally:
        tasks.cancel()
        await asyncio.wait([tasks])


async def idle() -> None:
    """Until a fake disk has done what it was asked; a write takes a few turns of the loop."""
    for _ in range(200):
        await asyncio.sleep(0)
