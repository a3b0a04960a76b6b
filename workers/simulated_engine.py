"""An engine with a real block cache that spends time instead of computing: for scale tests on few CPUs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash
from pydantic import BaseModel, ConfigDict, Field

from .batching_engine import BatchingEngine, running
from .block_pool import BlockPool
from .engine import Engine
from .fetch_costs import FetchCosts
from .model_folder import Array
from .offload import Moves, Offload
from .scheduler import Scheduler, Work
from .tiny_model import PLAIN_IDS

Sleep = Callable[[float], Awaitable[None]]

_NO_KV = np.empty(0, np.float32)


class SimulatedSettings(BaseModel):
    """All times 0: instant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["simulated"] = "simulated"
    cache: Path = Path("~/.cache/kvplane")  # for the tokenizer, which is the tiny model's
    prefill_us_per_token: float = Field(100.0, ge=0)
    decode_ms: float = Field(10.0, ge=0)  # of a step, however many sequences decode in it
    blocks: int = Field(4096, ge=1)
    cpu_blocks: int = Field(0, ge=0)
    disk_blocks: int = Field(0, ge=0)
    cpu_us_per_token: float = Field(5.0, ge=0)  # to fetch it
    disk_us_per_token: float = Field(40.0, ge=0)
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
        BlockPool(settings.blocks, settings.block_tokens, _tiers_below(settings, sleep, clock)),
        max_sequences=settings.max_sequences,
        prefill_chunk=settings.prefill_chunk,
        context=settings.max_context,
        vocabulary=1 << 32,
        stop_ids=(),
    )
    async with running(BatchingEngine(scheduler, TimedSteps(settings, sleep), clock)) as engine:
        yield engine


def _tiers_below(settings: SimulatedSettings, sleep: Sleep, clock: Callable[[], float]) -> Offload | None:
    if not settings.cpu_blocks and not settings.disk_blocks:
        return None
    costs = FetchCosts()
    costs.computed(1, settings.prefill_us_per_token / 1e6)
    costs.copied(1, settings.cpu_us_per_token / 1e6)
    costs.read(1, settings.disk_us_per_token / 1e6)
    disk = TimedDisk(settings.block_tokens * settings.disk_us_per_token / 1e6, sleep)
    return Offload(settings.cpu_blocks, settings.disk_blocks, disk, costs, clock)


class TimedDisk:
    """Writes at once and loses nothing; a block takes as long as it would to be read."""

    def __init__(self, block_s: float, sleep: Sleep) -> None:
        self._block_s = block_s
        self._sleep = sleep
        self._held: set[bytes] = set()

    async def write(self, digest: bytes, _kv: Array) -> bool:
        self._held.add(digest)
        return True

    async def remove(self, digest: bytes) -> None:
        self._held.discard(digest)

    async def read(self, digests: Sequence[bytes]) -> Sequence[Array]:
        found = list(takewhile(self._held.__contains__, digests))
        await self._sleep(len(found) * self._block_s)
        return [_NO_KV] * len(found)


class TimedSteps:
    """Waits for as long as a step would take; tokens are letters drawn from a hash of the prompt and their position."""

    def __init__(self, settings: SimulatedSettings, sleep: Sleep) -> None:
        self._settings = settings
        self._sleep = sleep

    async def compute(self, step: Sequence[Work], moves: Moves) -> Sequence[int]:
        settings = self._settings
        for _, kept in moves.copies:
            kept.kv = _NO_KV
        sampled = [_token(work) for work in step if work.samples]
        prefilled = sum(work.tokens for work in step if not work.decodes)
        fetched = len(moves.fills) * settings.block_tokens
        decodes = any(work.decodes for work in step)
        us = prefilled * settings.prefill_us_per_token + fetched * settings.cpu_us_per_token
        await self._sleep(us / 1e6 + decodes * settings.decode_ms / 1e3)
        return sampled


def _token(work: Work) -> int:
    generation = work.generation
    drawn: int = xxhash.xxh3_64_intdigest(generation.request.words, seed=generation.output_tokens)
    return PLAIN_IDS[drawn % len(PLAIN_IDS)]
