"""One loop serves all: when it dies or hangs everyone is told, and nobody waits for it."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from kvplane.tests.workers.disks import FakeDisk, Gpu, idle
from kvplane.workers.batching_engine import BatchingEngine, Steps, running
from kvplane.workers.block_pool import BlockPool
from kvplane.workers.engine import BlockHash, Delta, EngineDead, EngineRequest, Removed, Sampling, Stored
from kvplane.workers.model_folder import Array
from kvplane.workers.offload import Moves, Offload
from kvplane.workers.scheduler import Scheduler, Work


class Held:
    """Computes a step when told to."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        self.began.set()
        await self.go.wait()
        return [5 for work in step if work.samples]


class Counted:
    """Computes so many steps and holds the next."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.held = asyncio.Event()

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        if not self.allowed:
            self.held.set()
            await asyncio.Event().wait()
        self.allowed -= 1
        return [5 for work in step if work.samples]


class Copying:
    """Computes at once, in a pool of blocks that hold nothing."""

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        Gpu(3).move(moves)
        return [5 for work in step if work.samples]


class Broken(Held):
    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        await super().compute(step, moves)
        raise MemoryError("no room for scores")


@asynccontextmanager
async def opened(steps: Steps, clock: Callable[[], float] = time.perf_counter) -> AsyncIterator[BatchingEngine]:
    scheduler = Scheduler(BlockPool(8, 4), max_sequences=2, prefill_chunk=8, context=100, vocabulary=100, stop_ids=())
    async with asyncio.timeout(20), running(BatchingEngine(scheduler, steps, clock)) as engine:
        yield engine


def ask(tokens: range) -> EngineRequest:
    return EngineRequest("r", struct.pack(f"<{len(tokens)}I", *tokens), "s", Sampling(max_tokens=2))


async def answer(engine: BatchingEngine, request: EngineRequest) -> list[Delta]:
    return [delta async for delta in engine.generate(request)]


async def test_a_step_that_never_ends_is_an_engine_that_is_dead() -> None:
    now, steps = [0.0], Held()
    async with opened(steps, lambda: now[0]) as engine:
        reader = asyncio.create_task(answer(engine, ask(range(9))))
        await steps.began.wait()
        now[0] = 119.0
        busy = engine.load()
        now[0] = 121.0

        assert busy.running_sequences == 1
        with pytest.raises(EngineDead, match="under way"):
            engine.load()
        steps.go.set()
        await reader
        assert engine.load().running_sequences == 0


async def test_a_step_that_raises_kills_the_engine_for_everyone() -> None:
    steps = Broken()
    async with opened(steps) as engine:
        readers = [asyncio.create_task(answer(engine, ask(range(9)))) for _ in range(3)]
        await steps.began.wait()
        steps.go.set()
        ends = await asyncio.gather(*readers, return_exceptions=True)

        assert all(isinstance(end, EngineDead) for end in ends)
        assert isinstance(ends[0], EngineDead)
        assert isinstance(ends[0].__cause__, MemoryError)
        with pytest.raises(EngineDead, match="MemoryError: no room for scores"):
            engine.load()
        with pytest.raises(EngineDead):
            await answer(engine, ask(range(5)))
        with pytest.raises(EngineDead):
            [events async for events in engine.events()]


async def test_a_tier_whose_loop_ends_ends_the_engine() -> None:
    class Unplugged(FakeDisk):
        async def write(self, digest: bytes, kv: Array) -> bool:
            raise RuntimeError("the thread is gone")

    pool = BlockPool(3, 4, Offload(0, 4, Unplugged()))
    scheduler = Scheduler(pool, max_sequences=2, prefill_chunk=8, context=100, vocabulary=100, stop_ids=())
    async with asyncio.timeout(20), running(BatchingEngine(scheduler, Copying())) as engine:
        for start in (0, 20):  # the second evicts the first
            await answer(engine, ask(range(start, start + 9)))
        await idle()

        with pytest.raises(EngineDead, match="RuntimeError: the thread is gone"):
            engine.load()


async def test_a_prompt_being_computed_and_one_queued_count_as_waiting() -> None:
    steps = Held()
    async with opened(steps) as engine:
        async with asyncio.TaskGroup() as group:
            group.create_task(answer(engine, ask(range(12))))
            await steps.began.wait()
            group.create_task(answer(engine, ask(range(20, 30))))
            await asyncio.sleep(0)

            assert engine.load().waiting_prefill_tokens == 22
            steps.go.set()
        assert engine.load().waiting_prefill_tokens == 0


async def test_a_reader_gone_in_the_midst_of_a_step_leaves_nothing_behind() -> None:
    steps = Held()
    async with opened(steps) as engine:
        reader = asyncio.create_task(answer(engine, ask(range(9))))
        await steps.began.wait()
        reader.cancel()
        await asyncio.wait([reader])

        assert engine.load().free_blocks == 8
        steps.go.set()
        [_first, second] = await answer(engine, ask(range(9)))
        assert (second.cached_tokens, second.finish) == (0, "length")


async def test_a_block_is_announced_before_the_token_that_follows_it() -> None:
    steps = Counted(allowed=1)
    async with opened(steps) as engine:
        await anext(engine.generate(ask(range(8))))
        async with asyncio.timeout(0):
            [stored] = await anext(engine.events())

    assert isinstance(stored, Stored)
    assert len(stored.hashes) == 2


async def test_an_eviction_is_announced_before_the_step_that_overwrites_the_block() -> None:
    steps = Counted(allowed=5)  # four chunks of the first prompt, and its second token
    async with opened(steps) as engine, asyncio.TaskGroup() as group:
        await answer(engine, ask(range(28)))
        second = group.create_task(answer(engine, ask(range(40, 68))))
        await steps.held.wait()
        removed: list[BlockHash] = []
        async with asyncio.timeout(0):
            async for events in engine.events():
                removed.extend(name for event in events if isinstance(event, Removed) for name in event.hashes)
                if len(removed) == 6:
                    break
        second.cancel()

    assert len(set(removed)) == 6
