"""Keeps a replica's page: engine events become usable names, batched while an append is in flight, numbered, signed."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..directory import (
    Batch,
    Checkpoint,
    Closure,
    HolderId,
    Load,
    Pages,
    PagesDown,
    Served,
    seal,
)
from ..directory.backoff import delays
from .engine import Cleared, Engine, EngineDead, Removed, Stored

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.25

_LOG_BYTES = 64 << 10  # a log this short is never worth a checkpoint
_OUTCOMES = 1000
_ROUTERS = 256
_LEAVE_S = 1.0
_HEARD_S = 0.1  # a reader between two reads comes back within this


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: given by the registrar when the replica starts."""

    holder: HolderId
    epoch: int
    mac_key: bytes = field(repr=False)


class Publisher:
    """The one writer of one page. It keeps state and no backlog: after an outage one checkpoint says all."""

    def __init__(
        self, engine: Engine, pages: Pages, closure: Closure, identity: Identity, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._pages = pages
        self._closure = closure
        self._identity = identity
        self._clock = clock
        self._news = asyncio.Event()
        self._outcomes: deque[Served] = deque(maxlen=_OUTCOMES)
        self._counted: dict[str, int] = {}
        self._seq = -1
        self._log_bytes = 0
        self._checkpoint_bytes = 0
        self._wrote_at: float | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since the page was last written; None before the first time."""
        return None if self._wrote_at is None else self._clock() - self._wrote_at

    async def run(self) -> None:
        """Publish until cancelled, then drop the page. Raises `EngineDead` when the engine is."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._speak())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            await self.close()

    def served(self, outcome: Served) -> None:
        """Tell all routers how a ticket ended; while the page cannot be written, the last thousand are kept."""
        self._outcomes.append(outcome)
        self._news.set()

    def counted(self, router: str, number: int) -> None:
        """Note that the engine's load includes a router's tickets up to this number."""
        number = max(number, self._counted.pop(router, 0))
        self._counted[router] = number  # last among them: those not heard of for longest go first
        if len(self._counted) > _ROUTERS:
            del self._counted[next(iter(self._counted))]

    async def close(self) -> None:
        """Say what is left to say, then drop the page, if the store answers within a second; else its lease ends it."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                if not await self._append():  # whether an append that was cancelled arrived, nobody knows
                    await self._rewrite()
                    await self._append()
                await asyncio.sleep(_HEARD_S)
                await self._pages.drop(self._identity.holder)
        except (EngineDead, PagesDown, TimeoutError) as exc:
            log.warning("the page of %s is left to its lease: %s", self._identity.holder, exc)

    async def _listen(self) -> None:
        async for events in self._engine.events():
            for event in events:
                match event:
                    case Stored():
                        self._closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
                    case Removed():
                        self._closure.remove(event.hashes, event.tier)
                    case Cleared():
                        self._closure.clear()
            self._news.set()
        raise EngineDead("the engine's events have ended")

    async def _speak(self) -> None:
        stands, waits = False, delays(0.05, 1.0)
        while True:
            try:
                if not stands:
                    await self._rewrite()
                stands = await self._append()
                if stands and self._log_bytes > max(self._checkpoint_bytes, _LOG_BYTES):
                    await self._checkpoint()
            except PagesDown as exc:
                if stands:
                    log.warning("the page of %s waits to be rewritten: %s", self._identity.holder, exc)
                stands = False
            if stands:
                waits = delays(0.05, 1.0)
                await self._wait()
            else:  # never at once: two writers of one page would keep each other busy
                await asyncio.sleep(next(waits))

    async def _wait(self) -> None:
        """Until there is news, or a heartbeat is due."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._news.wait()
        except TimeoutError:
            return  # the heartbeat

    async def _rewrite(self) -> None:
        """Start the page anew. Under a new number, so that readers of what may have been lost see the gap."""
        self._seq += 1
        await self._checkpoint()

    async def _checkpoint(self) -> None:
        """Write the whole holding as of the present number; changes yet to be appended may be in it, being absolute."""
        identity, changes = self._identity, self._closure.holding()
        message = Checkpoint(identity.holder, identity.epoch, self._seq, self._load(), changes)
        checkpoint = seal(message, identity.mac_key)
        await self._pages.checkpoint(checkpoint)
        self._wrote_at = self._clock()
        self._checkpoint_bytes, self._log_bytes = len(checkpoint.body), 0

    async def _append(self) -> bool:
        """Say what is new; False if the page is lost, with what was said to be said again."""
        self._news.clear()
        identity, outcomes, changes = self._identity, tuple(self._outcomes), self._closure.drain()
        self._outcomes.clear()
        self._seq += 1
        message = Batch(identity.holder, identity.epoch, self._seq, self._load(), changes, outcomes)
        batch = seal(message, identity.mac_key)
        stands = False
        try:
            stands = not (await self._pages.append(batch)).lost
        finally:
            if not stands:
                self._outcomes = deque((*outcomes, *self._outcomes), maxlen=_OUTCOMES)
        if stands:
            self._wrote_at = self._clock()
            self._log_bytes += len(batch.body)
        return stands

    def _load(self) -> Load:
        load = self._engine.load()
        return Load(
            waiting_prefill_tokens=load.waiting_prefill_tokens,
            running_sequences=load.running_sequences,
            decode_blocks=load.decode_blocks,
            free_blocks=load.free_blocks,
            total_blocks=self._engine.capacity().blocks,
            counted=dict(self._counted),
        )
