"""An engine with a real block cache that spends time instead of computing: for scale tests on few CPUs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import xxhash
from pydantic import BaseModel, ConfigDict, Field

from .batching_engine import BatchingEngine, running
from .block_pool import BlockPool
from .engine import Engine
from .scheduler import Scheduler, Work
from .tiny_model import PLAIN_IDS

Sleep = Callable[[float], Awaitable[None]]


class SimulatedSettings(BaseModel):
    """Both times 0: instant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["simulated"] = "simulated"
    cache: Path = Path("~/.cache/kvplane")  # for the tokenizer, which is the tiny model's
    prefill_us_per_token: float = Field(100.0, ge=0)
    decode_ms: float = Field(10.0, ge=0)  # of a step, however many sequences decode in it
    blocks: int = Field(4096, ge=1)
    block_tokens: int = Field(32, ge=1)
    max_sequences: int = Field(32, ge=1)
    prefill_chunk: int = Field(1024, ge=1)  # prompt tokens a step, shared by all sequences
    max_context: int = Field(131072, ge=2)


@asynccontextmanager
async def simulated_engine(
    settings: SimulatedSettings, sleep: Sleep = asyncio.sleep, clock: Callable[[], float] = time.perf_counter
) -> AsyncIterator[Engine]:
    """Serve until left; `sleep` and `clock` are of one time, real or not, in seconds."""
    scheduler = Scheduler(
        BlockPool(settings.blocks, settings.block_tokens),
        max_sequences=settings.max_sequences,
        prefill_chunk=settings.prefill_chunk,
        context=settings.max_context,
        vocabulary=1 << 32,
        stop_ids=(),
    )
    async with running(BatchingEngine(scheduler, TimedSteps(settings, sleep), clock)) as engine:
        yield engine


class TimedSteps:
    """Waits for as long as a step would take; tokens are letters drawn from a hash of the prompt and their position."""

    def __init__(self, settings: SimulatedSettings, sleep: Sleep) -> None:
        self._settings = settings
        self._sleep = sleep

    async def compute(self, step: Sequence[Work]) -> Sequence[int]:
        sampled = [_token(work) for work in step if work.samples]
        prefilled = sum(work.tokens for work in step if not work.decodes)
        decodes = any(work.decodes for work in step)
        await self._sleep(
            prefilled * self._settings.prefill_us_per_token / 1e6 + decodes * self._settings.decode_ms / 1e3
        )
        return sampled


def _token(work: Work) -> int:
    generation = work.generation
    drawn: int = xxhash.xxh3_64_intdigest(generation.request.words, seed=generation.output_tokens)
    return PLAIN_IDS[drawn % len(PLAIN_IDS)]
