"""An engine made of a scheduler and something that computes its steps, one after another."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from .engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest
from .offload import Moves
from .scheduler import Generation, Scheduler, Work
from .vllm_events import translate

_STUCK_S = 120.0  # a step takes a second on a slow machine


class Steps(Protocol):
    """Computes a step: a transformer, or a clock."""

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        """Make the moves, then draw one token for each work that `samples`, in order."""
        ...


class BatchingEngine:
    """An `Engine`, alive while `run` is. All but the steps happens on the event loop, so there is nothing to lock."""

    def __init__(self, scheduler: Scheduler, steps: Steps, clock: Callable[[], float] = time.perf_counter) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._clock = clock
        self._streams: dict[Generation, asyncio.Queue[Delta | None]] = {}  # None: the engine has died
        self._events: asyncio.Queue[Sequence[EngineEvent] | None] = asyncio.Queue()
        self._asked = asyncio.Event()
        self._death: BaseException | None = None
        self._step_began: float | None = None

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Continue a prompt. Raises `Unservable` at once for one that can never fit; else `EngineDead`."""
        self._scheduler.check(request)
        return self._stream(request)

    async def events(self) -> AsyncGenerator[Sequence[EngineEvent], None]:
        while (events := await self._events.get()) is not None:
            yield events
        self._check_alive()

    def load(self) -> EngineLoad:
        self._check_alive()
        if self._step_began is not None and self._clock() - self._step_began > _STUCK_S:
            raise EngineDead(f"a step has been under way for more than {_STUCK_S:.0f} s")
        return self._scheduler.load()

    def capacity(self) -> Capacity:
        scheduler = self._scheduler
        return Capacity(
            blocks=scheduler.pool.blocks,
            block_tokens=scheduler.pool.block_tokens,
            max_prompt_tokens=scheduler.max_tokens - 1,
            max_sequences=scheduler.max_sequences,
        )

    async def run(self) -> None:
        """Compute steps until cancelled. A step that raises ends the engine, and everyone waiting is told why."""
        try:
            await self._run()
        except Exception as exc:
            self._end(exc)
        except asyncio.CancelledError as exc:
            self._end(exc)
            raise

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                if below := self._scheduler.pool.below:
                    tasks.create_task(below.run(self._asked.set))
                while True:
                    await self._asked.wait()
                    await self._step()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _step(self) -> None:
        step = self._scheduler.plan(self._clock())
        # Evictions are told before the step that overwrites them, and the last step's stores before anyone sees its
        # tokens: nothing has been awaited in between.
        if events := self._scheduler.pool.take_events():
            self._events.put_nowait(translate(events))
        if not step:
            self._asked.clear()
            return
        self._step_began = self._clock()
        pool = self._scheduler.pool
        sampled = await self._steps.compute(step, pool.below.take_moves() if pool.below else Moves())
        self._step_began = None
        if pool.below:
            pool.below.moved()
        for generation, delta in self._scheduler.finish(step, sampled, self._clock()):
            self._streams[generation].put_nowait(delta)

    async def _stream(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        self._check_alive()
        generation = self._scheduler.add(request, self._clock())
        stream = self._streams[generation] = asyncio.Queue()
        self._asked.set()
        try:
            while (delta := await stream.get()) is not None:
                yield delta
                if delta.finish:
                    return
            self._check_alive()
        finally:
            self._scheduler.remove(generation)
            del self._streams[generation]

    def _end(self, cause: BaseException) -> None:
        self._death = cause
        for stream in self._streams.values():
            stream.put_nowait(None)
        self._events.put_nowait(None)

    def _check_alive(self) -> None:
        match self._death:
            case None:
                return
            case asyncio.CancelledError():
                raise EngineDead("the engine has been closed")
            case cause:
                raise EngineDead(f"the engine's loop ended with {type(cause).__name__}: {cause}") from cause


@asynccontextmanager
async def running(engine: BatchingEngine) -> AsyncIterator[BatchingEngine]:
    """Run an engine's loop for the length of the block."""
    # Not a TaskGroup: it would wrap every error of the block in an ExceptionGroup.
    loop = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        loop.cancel()
        await asyncio.wait([loop])
