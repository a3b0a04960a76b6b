"""Pages whose readers hear everything a little late."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from ...directory import Appended, HolderId, MemoryPages, PageSize, Sealed


class LaggedPages:
    """Delays what is followed, never what is written; `lag_s` 0 delays nothing."""

    def __init__(self, pages: MemoryPages, lag_s: float, clock: Callable[[], float]) -> None:
        self._pages = pages
        self._lag_s = lag_s
        self._clock = clock
        self._written: dict[HolderId, dict[tuple[int, int], float]] = {}

    async def append(self, batch: Sealed) -> Appended:
        self._note(batch)
        return await self._pages.append(batch)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        self._note(checkpoint)
        await self._pages.checkpoint(checkpoint)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        async for sealed in self._pages.follow(holder):
            if self._lag_s:
                written = self._written.get(holder, {}).get((sealed.epoch, sealed.seq), 0.0)
                await asyncio.sleep(max(0.0, written + self._lag_s - self._clock()))
            yield sealed

    async def drop(self, holder: HolderId) -> None:
        await self._pages.drop(holder)

    async def measure(self, holder: HolderId) -> PageSize:
        return await self._pages.measure(holder)

    def _note(self, sealed: Sealed) -> None:
        if self._lag_s:
            self._written.setdefault(sealed.holder, {})[sealed.epoch, sealed.seq] = self._clock()
