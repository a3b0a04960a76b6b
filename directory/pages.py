"""What a store of pages promises: each holder's own account of its cache, one writer, many readers."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from .ids import HolderId
from .wire import Sealed


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append. `lost`: the page is not where its writer left it; write a checkpoint."""

    lost: bool


class Pages(Protocol):
    """A log and a checkpoint per holder. Every implementation passes tests/directory/test_pages.py.

    All verbs raise `PagesDown` when the store does not answer, except `follow`, which waits for its return.
    """

    async def append(self, batch: Sealed) -> Appended:
        """Add a batch behind the last one; lost unless the page stands at the same epoch and at `seq - 1`."""
        ...

    async def checkpoint(self, checkpoint: Sealed) -> None:
        """Replace the page by a whole holding as of `seq`; the log behind it may go."""
        ...

    def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        """Yield the checkpoint, if there is one, then each batch behind it, without end; its reader closes it.

        It may skip (a trimmed log): the reader sees a gap in `seq`, and follows anew. Raises `BadMessage` for a page
        that none of the other verbs wrote.
        """
        ...

    async def drop(self, holder: HolderId) -> None:
        """Remove a holder's page."""
        ...


@dataclass(slots=True)
class _Page:
    checkpoint: Sealed
    log: list[Sealed] = field(default_factory=list)

    @property
    def head(self) -> tuple[int, int]:
        return max(_place(message) for message in (self.checkpoint, *self.log[-1:]))


class MemoryPages:
    """Pages of one process: for tests and replay. The log keeps what is behind the checkpoint before the last."""

    def __init__(self) -> None:
        self._pages: dict[HolderId, _Page] = {}
        self._changed: dict[HolderId, asyncio.Event] = {}

    async def append(self, batch: Sealed) -> Appended:
        page = self._pages.get(batch.holder)
        if page is None or page.head != (batch.epoch, batch.seq - 1):
            return Appended(lost=True)
        page.log.append(batch)
        self._tell(batch.holder)
        return Appended(lost=False)

    async def checkpoint(self, checkpoint: Sealed) -> None:
        old = self._pages.get(checkpoint.holder)
        page = self._pages[checkpoint.holder] = _Page(checkpoint)
        if old is not None and old.checkpoint.epoch == checkpoint.epoch and old.head <= _place(checkpoint):
            page.log = [batch for batch in old.log if batch.seq > old.checkpoint.seq]
        self._tell(checkpoint.holder)

    async def follow(self, holder: HolderId) -> AsyncGenerator[Sealed, None]:
        known = (-1, -1)
        page = self._pages.get(holder)
        if page is not None:
            known = _place(page.checkpoint)
            yield page.checkpoint
        while True:
            changed = self._changed.setdefault(holder, asyncio.Event())
            page = self._pages.get(holder)
            for batch in [] if page is None else list(page.log):
                if _place(batch) > known:
                    known = _place(batch)
                    yield batch
            await changed.wait()

    async def drop(self, holder: HolderId) -> None:
        self._pages.pop(holder, None)

    def _tell(self, holder: HolderId) -> None:
        """Wake all who follow; each takes a fresh event before it looks, so none misses a change."""
        changed = self._changed.pop(holder, None)
        if changed is not None:
            changed.set()


def _place(sealed: Sealed) -> tuple[int, int]:
    return sealed.epoch, sealed.seq
