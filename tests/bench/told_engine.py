"""An engine that computes nothing: its cache is what it is told that it holds."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from kvplane.workers.engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest, Removed, Stored

from .forest import BLOCK_TOKENS, SALT, Stretch

_LOAD = EngineLoad(waiting_prefill_tokens=20_000, running_sequences=40, decode_blocks=9_000, free_blocks=50_000)


class ToldEngine:
    """Tells its publisher what it is told, as soon as it listens. It has room for everything."""

    def __init__(self) -> None:
        self._told = asyncio.Queue[Sequence[EngineEvent]]()

    def tell(self, events: Sequence[EngineEvent]) -> None:
        self._told.put_nowait(events)

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        raise EngineDead("this engine only tells events")

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        while True:
            yield await self._told.get()

    def load(self) -> EngineLoad:
        return _LOAD

    def capacity(self) -> Capacity:
        return Capacity(blocks=1 << 24, block_tokens=BLOCK_TOKENS, max_prompt_tokens=1 << 20, max_sequences=256)


def stored(stretch: Stretch) -> Stored:
    """A stretch as an engine tells of it. Names stand in for the engine's hashes: unlike each other, as those are."""
    salt = SALT if stretch.parent is None else None
    return Stored(tuple(stretch.names), stretch.parent, stretch.words, salt=salt)


def removed(stretch: Stretch) -> list[Removed]:
    """A block an event, deepest first, as vLLM tells of what it evicts."""
    return [Removed((name,)) for name in reversed(stretch.names)]
