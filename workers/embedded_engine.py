"""A real transformer with a real KV cache in plain numpy: serves small models on machines without a GPU."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .batching_engine import BatchingEngine, running
from .block_pool import BlockPool
from .engine import Engine
from .llama import Chunk, Llama
from .model_folder import Array, map_weights, read_config
from .sampling import draw
from .scheduler import Scheduler, Work
from .weights import prepare

Draw = Callable[[Array], int]


class EmbeddedSettings(BaseModel):
    """SmolLM2 needs 45 KiB of memory a token: 720 MiB for the 512 blocks, taken at the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["embedded"] = "embedded"
    model: str = "smollm2"  # or "tiny", a .gguf file, a prepared folder
    cache: Path = Path("~/.cache/kvplane")
    blocks: int = Field(512, ge=1)
    block_tokens: int = Field(32, ge=1)
    max_sequences: int = Field(8, ge=1)
    prefill_chunk: int = Field(256, ge=1)  # prompt tokens a step, shared by all sequences
    max_context: int | None = Field(None, ge=2)  # at most, and by default, the model's own


@asynccontextmanager
async def embedded_engine(settings: EmbeddedSettings) -> AsyncIterator[Engine]:
    """Load the model and serve it; on leaving, the step at hand is waited for. Raises `BadModel`."""
    folder = await asyncio.to_thread(prepare, settings.model, settings.cache)
    config = read_config(folder)
    weights = await asyncio.to_thread(map_weights, folder, config)
    model = Llama(config, weights, blocks=settings.blocks, block_tokens=settings.block_tokens)
    await asyncio.to_thread(model.take_memory)
    scheduler = Scheduler(
        BlockPool(settings.blocks, settings.block_tokens),
        max_sequences=settings.max_sequences,
        prefill_chunk=settings.prefill_chunk,
        context=min(settings.max_context or config.context, config.context),
        vocabulary=config.vocabulary,
        stop_ids=config.eos_ids,
    )
    steps = ModelSteps(model)
    try:
        async with running(BatchingEngine(scheduler, steps)) as engine:
            yield engine
    finally:
        await steps.close()


class ModelSteps:
    """Computes steps in one thread of its own; numpy lets go of the interpreter while it multiplies."""

    def __init__(self, model: Llama) -> None:
        self._model = model
        self._seed = secrets.randbits(64)  # of requests that bring none
        self._thread = ThreadPoolExecutor(1, "model")  # starts with the first step

    async def compute(self, step: Sequence[Work]) -> Sequence[int]:
        # Read off the sequences here: while the thread computes, a cancelled one gives its blocks back.
        chunks = [_chunk(work) for work in step]
        draws = [self._draw(work) for work in step if work.samples]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, chunks, draws)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _draw(self, work: Work) -> Draw:
        request = work.generation.request
        seed = request.sampling.seed
        chance = hash((self._seed, request.id)) if seed is None else seed
        return partial(draw, sampling=request.sampling, seed=chance, position=work.generation.table.tokens)

    def _compute(self, chunks: Sequence[Chunk], draws: Sequence[Draw]) -> Sequence[int]:
        logits = self._model.forward(chunks)
        return [pick(row) for pick, row in zip(draws, logits, strict=True)]


def _chunk(work: Work) -> Chunk:
    table = work.generation.table
    words = bytes(table.words[work.start * 4 : (work.start + work.tokens) * 4])
    return Chunk(np.frombuffer(words, "<u4"), work.start, tuple(table.blocks), work.samples)
