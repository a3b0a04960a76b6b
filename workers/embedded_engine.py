"""A real transformer with a real KV cache in plain numpy: serves small models on machines without a GPU."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .batching_engine import BatchingEngine, running
from .block_pool import BlockPool
from .disk_tier import open_disk
from .engine import Engine
from .fetch_costs import FetchCosts
from .llama import Chunk, Llama
from .model_folder import Array, map_weights, read_config
from .offload import Moves, Offload
from .sampling import draw
from .scheduler import Scheduler, Work
from .weights import prepare

Draw = Callable[[Array], int]


class EmbeddedSettings(BaseModel):
    """SmolLM2 needs 45 KiB of memory a token: 720 MiB for the 512 blocks, taken at the start.

    Blocks of the tiers below are as large, and taken as they fill up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["embedded"] = "embedded"
    model: str = "smollm2"  # or "tiny", a .gguf file, a prepared folder
    cache: Path = Path("~/.cache/kvplane")
    blocks: int = Field(512, ge=1)
    cpu_blocks: int = Field(0, ge=0)  # evicted ones, kept in memory
    disk_blocks: int = Field(0, ge=0)  # those that memory has no room for, kept in files
    disk_folder: Path | None = None  # each replica makes its own folder within; by default within `cache`
    block_tokens: int = Field(32, ge=1)
    max_sequences: int = Field(8, ge=1)
    prefill_chunk: int = Field(256, ge=1)  # prompt tokens a step, shared by all sequences
    max_context: int | None = Field(None, ge=2)  # at most, and by default, the model's own


@asynccontextmanager
async def embedded_engine(settings: EmbeddedSettings, costs: FetchCosts | None = None) -> AsyncIterator[Engine]:
    """Load the model and serve it; on leaving, the step at hand is waited for. Raises `BadModel`.

    What fetching and computing cost is learned into `costs`.
    """
    costs = costs or FetchCosts()
    folder = await asyncio.to_thread(prepare, settings.model, settings.cache)
    config = read_config(folder)
    weights = await asyncio.to_thread(map_weights, folder, config)
    model = Llama(config, weights, blocks=settings.blocks, block_tokens=settings.block_tokens)
    await asyncio.to_thread(model.take_memory)
    async with AsyncExitStack() as stack:
        below = await _tiers_below(settings, model, costs, stack)
        scheduler = Scheduler(
            BlockPool(settings.blocks, settings.block_tokens, below),
            max_sequences=settings.max_sequences,
            prefill_chunk=settings.prefill_chunk,
            context=min(settings.max_context or config.context, config.context),
            vocabulary=config.vocabulary,
            stop_ids=config.eos_ids,
        )
        steps = ModelSteps(model, settings.block_tokens, costs)
        stack.push_async_callback(steps.close)
        yield await stack.enter_async_context(running(BatchingEngine(scheduler, steps)))


async def _tiers_below(
    settings: EmbeddedSettings, model: Llama, costs: FetchCosts, stack: AsyncExitStack
) -> Offload | None:
    if not settings.cpu_blocks and not settings.disk_blocks:
        return None
    disk = None
    if settings.disk_blocks:
        base = settings.disk_folder or settings.cache / "disk-tier"
        disk = await stack.enter_async_context(open_disk(base.expanduser(), model.block_shape))
    return Offload(settings.cpu_blocks, settings.disk_blocks, disk, costs)


class ModelSteps:
    """Computes steps in one thread of its own; numpy lets go of the interpreter while it multiplies."""

    def __init__(self, model: Llama, block_tokens: int, costs: FetchCosts) -> None:
        self._model = model
        self._block_tokens = block_tokens
        self._costs = costs
        self._seed = secrets.randbits(64)  # of requests that bring none
        self._thread = ThreadPoolExecutor(1, "model")  # starts with the first step

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        # Read off the sequences here: while the thread computes, a cancelled one gives its blocks back.
        chunks = [_chunk(work) for work in step]
        draws = [self._draw(work) for work in step if work.samples]
        prefilled = sum(work.tokens for work in step if not work.decodes)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._compute, moves, chunks, draws, prefilled
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _draw(self, work: Work) -> Draw:
        request = work.generation.request
        seed = request.sampling.seed
        chance = hash((self._seed, request.id)) if seed is None else seed
        return partial(draw, sampling=request.sampling, seed=chance, position=work.generation.table.tokens)

    def _compute(self, moves: Moves, chunks: Sequence[Chunk], draws: Sequence[Draw], prefilled: int) -> Sequence[int]:
        self._move(moves)
        began = time.perf_counter()
        logits = self._model.forward(chunks)
        if prefilled >= self._block_tokens:  # fewer share a step's fixed cost among too few
            self._costs.computed(prefilled, time.perf_counter() - began)
        return [pick(row) for pick, row in zip(draws, logits, strict=True)]

    def _move(self, moves: Moves) -> None:
        for block, kept in moves.copies:
            kept.kv = self._model.copy_block(block)
        began = time.perf_counter()
        for kept, block in moves.fills:
            assert kept.kv is not None, "only what is there is fetched"
            self._model.fill_block(block, kept.kv)
        if moves.fills:
            self._costs.copied(len(moves.fills) * self._block_tokens, time.perf_counter() - began)


def _chunk(work: Work) -> Chunk:
    table = work.generation.table
    words = bytes(table.words[work.start * 4 : (work.start + work.tokens) * 4])
    return Chunk(np.frombuffer(words, "<u4"), work.start, tuple(table.blocks), work.samples)
