"""What a store of pages promises: each holder's own account of its cache, one writer, many readers."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from .ids import HolderId
from .wire import Sealed


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append. `lost`: the page is not where its writer left it; write a checkpoint."""

    lost: bool


@dataclass(frozen=True, slots=True)
class PageSize:
    """What a page takes in memory where it is stored, as the store counts it, and where that is."""

    shard: int  # the logical one
    node: str
    log_bytes: int
    checkpoint_bytes: int
    head_bytes: int

    @property
    def bytes(self) -> int:
        return self.log_bytes + self.checkpoint_bytes + self.head_bytes


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

    async def measure(self, holder: HolderId) -> PageSize:
        """What a page takes; nothing where there is none."""
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
            # A slice, for the log may change while one of its batches is with the reader.
            for batch in [] if page is None else page.log[bisect_right(page.log, known, key=_place) :]:
                known = _place(batch)
                yield batch
            await changed.wait()

    async def drop(self, holder: HolderId) -> None:
        self._pages.pop(holder, None)

    async def measure(self, holder: HolderId) -> PageSize:
        page = self._pages.get(holder)
        log = 0 if page is None else sum(len(batch.body) for batch in page.log)
        return PageSize(0, "memory", log, 0 if page is None else len(page.checkpoint.body), 0)

    def _tell(self, holder: HolderId) -> None:
        """Wake all who follow; each takes a fresh event before it looks, so none misses a change."""
        changed = self._changed.pop(holder, None)
        if changed is not None:
            changed.set()


def _place(sealed: Sealed) -> tuple[int, int]:
    return sealed.epoch, sealed.seq
