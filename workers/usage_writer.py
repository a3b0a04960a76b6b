"""Writes usage down before its request is done, and keeps what the ledger does not take."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from ..directory import DirectorySettings, open_client
from .ledger import Ledger, LedgerDown, Usage
from .redis_ledger import RedisLedger
from .usage_spool import UsageSpool, usage_folder

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0  # of an answer that is complete but for this
_RETRY_S = 1.0


@asynccontextmanager
async def open_usage(url: str, cache: Path, secret: bytes, writer: str) -> AsyncIterator["UsageWriter"]:
    """A writer to the accounts that a URL names; what they do not take is kept in the cache folder. Raises `BadUrl`."""
    async with open_client(url, DirectorySettings()) as client:
        with closing(UsageSpool(usage_folder(cache, secret), writer)) as spool:
            yield UsageWriter(RedisLedger(client), spool)


class UsageWriter:
    """One per process; `run` delivers what was left for later, and what earlier processes left behind."""

    def __init__(self, ledger: Ledger, spool: UsageSpool) -> None:
        self._ledger = ledger
        self._spool = spool
        self._later: asyncio.Queue[Usage] = asyncio.Queue()
        self._down = False

    async def record(self, usage: Usage) -> None:
        """Return once an entry cannot be lost: the ledger has it, or the disk. Who stops waiting does not stop it."""
        if not usage.tenant:
            return
        try:
            if self._down or not await self._written(usage):
                await asyncio.to_thread(self._spool.append, [usage])
        except asyncio.CancelledError:
            self.later(usage)  # perhaps once more: the first stands
            raise

    def later(self, usage: Usage) -> None:
        """Have an entry written soon, for a request that nobody waits for."""
        if usage.tenant:
            self._later.put_nowait(usage)

    async def run(self) -> None:
        """Without end; what is then still to be written goes to the disk."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deliver())
                tasks.create_task(self._write_later())
        finally:
            left = [self._later.get_nowait() for _ in range(self._later.qsize())]
            if left:
                self._spool.append(left)

    async def _write_later(self) -> None:
        while True:
            await self.record(await self._later.get())

    async def _deliver(self) -> None:
        while True:
            await asyncio.to_thread(self._spool.adopt)
            kept = await asyncio.to_thread(self._spool.kept)
            delivered = 0
            for usage in kept:
                if not await self._written(usage):
                    break
                delivered += 1
            if kept and delivered == len(kept):
                await asyncio.to_thread(self._spool.forget, delivered)
            await asyncio.sleep(_RETRY_S)

    async def _written(self, usage: Usage) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ledger.write(usage)
        except (LedgerDown, TimeoutError) as exc:
            if not self._down:
                log.warning("usage is kept on disk until accounts answer: %s", exc)
            self._down = True
            return False
        self._down = False
        return True
