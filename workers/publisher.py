"""Keeps a replica's page: engine events become usable names, batched while an append is in flight, numbered, signed."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..directory import (
    Account,
    Batch,
    Changes,
    Checkpoint,
    Closure,
    HolderId,
    Load,
    Pages,
    PagesDown,
    Served,
    account_of,
    seal,
)
from ..directory.backoff import delays
from .engine import Cleared, Engine, EngineDead, EngineEvent, Removed, Stored, WindowsRemoved, WindowsStored
from .pace import AT_ONCE, Pace
from .page_log import PageLog
from .parts import parts

log = logging.getLogger(__name__)

_OUTCOMES = 1000
_ROUTERS = 256
_HIDDEN = 10_000  # salts, the latest; their blocks are stored while their requests run
_LEAVE_S = 1.0
_HEARD_S = 0.3  # a reader of many pages comes back within this


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: given by the registrar when the replica starts."""

    holder: HolderId
    epoch: int
    mac_key: bytes = field(repr=False)


class Publisher:
    """The one writer of one page. It keeps state and no backlog: after an outage one checkpoint says all."""

    def __init__(
        self,
        engine: Engine,
        pages: Pages,
        closure: Closure,
        identity: Identity,
        clock: Callable[[], float],
        pace: Pace = AT_ONCE,
    ) -> None:
        self._engine = engine
        self._pages = pages
        self._closure = closure
        self._successor: Closure | None = None  # while it takes over
        self._page_of: Closure | None = None  # what the page was last written from
        self._rewritten = asyncio.Event()
        self._identity = identity
        self._clock = clock
        self._pace = pace
        self._news = asyncio.Event()
        self._outcomes: deque[Served] = deque(maxlen=_OUTCOMES)
        self._counted: dict[str, int] = {}
        self._hidden: dict[str, None] = {}
        self._seq = -1
        self._log = PageLog(0.0, 0)
        self._wrote_at: float | None = None
        self._asked: list[asyncio.Future[Account]] = []
        self._distrusted = False  # the page was found not to say what is held
        self.repairs = 0  # digests that had gone astray; each was logged

    @property
    def age_s(self) -> float | None:
        """Seconds since the page was last written; None before the first time."""
        return None if self._wrote_at is None else self._clock() - self._wrote_at

    @property
    def blocks(self) -> int:
        """How many names the page tells, at any level."""
        return self._closure.blocks

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

    def hide(self, salt: str) -> None:
        """Say nothing of what will be stored under a salt: it is of one request, and nobody else can find it."""
        self._hidden[salt] = None
        if len(self._hidden) > _HIDDEN:
            del self._hidden[next(iter(self._hidden))]

    async def account(self) -> Account:
        """What is held as of the batch that is appended next, which is soon."""
        asked: asyncio.Future[Account] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._news.set()
        return await asked

    def rewrite(self) -> None:
        """Have the page written anew, whatever it says."""
        self._distrusted = True
        self._news.set()

    async def go_over(self, successor: Closure) -> None:
        """Let a closure under other keys take over, between events, and write the page anew from that.

        Returns once it stands; until then the page is as it was, and kept up. Readers replace one by the other at once.
        """
        self._successor = successor
        try:
            for _ in successor.take_over(self._closure):
                await asyncio.sleep(0)
            self._closure = successor
        finally:
            self._successor = None
        self.rewrite()
        while self._page_of is not successor:
            self._rewritten.clear()
            await self._rewritten.wait()

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
            for closure in filter(None, (self._closure, self._successor)):
                self._take(events, closure)
            self._news.set()
        raise EngineDead("the engine's events have ended")

    def _take(self, events: Sequence[EngineEvent], closure: Closure) -> None:
        for event in events:
            match event:
                case Stored() if event.salt in self._hidden:
                    pass
                case Stored():
                    closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
                case Removed():
                    closure.remove(event.hashes, event.tier)
                case WindowsStored():
                    closure.store_windows(event.hashes, event.group, event.reach, event.tier)
                case WindowsRemoved():
                    closure.remove_windows(event.hashes, event.group, event.tier)
                case Cleared():
                    closure.clear()

    async def _speak(self) -> None:
        stands, waits = False, delays(0.05, 1.0)
        while True:
            try:
                if not stands or self._distrusted:
                    self._distrusted = False
                    await self._rewrite()
                stands = await self._append()
                if stands and self._log.is_over(self._clock()):
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
        """For as long as the pace asks, then until there is news or a heartbeat is due."""
        await asyncio.sleep(self._pace.gap_s)
        try:
            async with asyncio.timeout(self._pace.heartbeat_s - self._pace.gap_s):
                await self._news.wait()
        except TimeoutError:
            return  # the heartbeat

    async def _rewrite(self) -> None:
        """Start the page anew. Under a new number, so that readers of what may have been lost see the gap."""
        closure = self._closure
        self._seq += 1
        closure.drain()  # who sees the gap reads the checkpoint, and that says all
        await self._checkpoint()
        self._page_of = closure
        self._rewritten.set()

    async def _checkpoint(self) -> None:
        """Write the whole holding as of the present number; changes yet to be appended may be in it, being absolute."""
        identity, changes = self._identity, self._closure.holding()
        if self._closure.reconcile(changes):
            self.repairs += 1
            log.error("the digest of %s had gone astray and was computed anew", identity.holder)
        digest = self._closure.digest
        message = Checkpoint(identity.holder, identity.epoch, self._seq, self.load(), changes, digest)
        checkpoint = seal(message, identity.mac_key)
        await self._pages.checkpoint(checkpoint)
        self._wrote_at = self._clock()
        self._log = PageLog(self._wrote_at, len(checkpoint.body))

    async def _append(self) -> bool:
        """Say what is new; False if the page is lost, with what was said to be said again."""
        self._news.clear()
        outcomes, changes = tuple(self._outcomes), self._closure.drain()
        digest = self._closure.digest
        self._outcomes.clear()
        stands = False
        try:
            *before, last = parts(changes)
            self._give_account(self._seq + len(before) + 1)
            for part in before:
                if not await self._say(part):
                    return False
            stands = await self._say(last, outcomes, digest)
        finally:
            if not stands:
                self._outcomes = deque((*outcomes, *self._outcomes), maxlen=_OUTCOMES)
        return stands

    def _give_account(self, seq: int) -> None:
        """Nothing may have changed since all was drained that is appended up to `seq`."""
        if self._asked:
            account = account_of(self._identity.holder, (self._identity.epoch, seq), self._closure.holding())
            for asked in self._asked:
                if not asked.done():
                    asked.set_result(account)
            self._asked.clear()

    async def _say(self, changes: tuple[Changes, ...], outcomes: tuple[Served, ...] = (), digest: bytes = b"") -> bool:
        """Append one batch; False if the page is lost."""
        identity = self._identity
        self._seq += 1
        message = Batch(identity.holder, identity.epoch, self._seq, self.load(), changes, outcomes, digest)
        batch = seal(message, identity.mac_key)
        if (await self._pages.append(batch)).lost:
            return False
        self._wrote_at = self._clock()
        self._log.add(len(batch.body), changes=bool(changes))
        return True

    def load(self) -> Load:
        """What the replica has to do at this moment."""
        load = self._engine.load()
        return Load(
            waiting_prefill_tokens=load.waiting_prefill_tokens,
            running_sequences=load.running_sequences,
            decode_blocks=load.decode_blocks,
            free_blocks=load.free_blocks,
            total_blocks=self._engine.capacity().blocks,
            counted=dict(self._counted),
            waiting_sequences=load.waiting_sequences,
        )
