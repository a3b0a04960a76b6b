"""A router's copy of all pages: each followed by itself, verified, in order, and read anew when in doubt."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass

from .backoff import delays
from .errors import BadMessage
from .holdings import Holdings
from .ids import HolderId
from .page_reader import UNREAD, PageReader
from .pages import Pages
from .plausible import NEW_BLOCKS_PER_S, Plausibility
from .wire import Batch, Load, Served

log = logging.getLogger(__name__)

SILENCE_S = 5.0  # five heartbeats of the largest fleet

_LOOK_S = 0.25
_SWEEP_NAMES = 1000  # of the departed at once: a fifth of a millisecond
_SWEEP_REST_S = 0.001


@dataclass(frozen=True, slots=True)
class Seen:
    """What a mirror knows of one holder. `age_s`: since it was last heard of."""

    load: Load
    age_s: float
    epoch: int
    seq: int
    blocks: int
    gaps: int  # batches that did not follow on the one before
    reloads: int  # times the page was read anew
    rejected: int  # messages that could not be trusted; none changed anything
    behind: int = 0  # batches that were heard of and are not in the holdings
    mismatches: int = 0  # messages whose digest was not that of the holdings
    implausible: int = 0  # messages after which it had more in gpu than it says that fits
    hasty: int = 0  # messages after which it had more new blocks than can have been computed
    aside: bool = False  # what it has counts for nothing, until it adds up again


class Mirror:
    """Feeds pages into holdings. A page that misbehaves costs only itself; a lost one keeps what it last said."""

    def __init__(
        self,
        pages: Pages,
        holdings: Holdings,
        mac_key: Callable[[HolderId, int], bytes],
        on_served: Callable[[HolderId, Served], None],
        clock: Callable[[], float],
        new_blocks_per_s: float = NEW_BLOCKS_PER_S,
    ) -> None:
        self._pages = pages
        self._holdings = holdings
        self._mac_key = mac_key
        self._on_served = on_served
        self._clock = clock
        self._new_blocks_per_s = new_blocks_per_s
        self._readers: dict[HolderId, PageReader] = {}
        self._followers: dict[HolderId, asyncio.Task[None]] = {}
        self._watches: list[set[HolderId]] = []
        self.errors = 0  # exceptions that no page explains; each was logged

    async def run(self, holders: Callable[[], Collection[HolderId]]) -> None:
        """Follow the live holders without end; one that leaves is followed until it falls silent, then forgotten.

        A replica that drains is no longer live, but still tells how its last requests went.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            while True:
                live = set(holders())
                for holder in self._readers.keys() - live:
                    if self._readers[holder].silent_s > SILENCE_S:
                        self._leave(holder)
                for holder in live:
                    self._attend(holder, tasks)
                await asyncio.sleep(_LOOK_S)

    def watch(self) -> set[HolderId]:
        """A set that gets every holder whose `load` changes from here on; who asked for it empties it."""
        self._watches.append(set())
        return self._watches[-1]

    @property
    def now_s(self) -> float:
        """The time that ages are counted up to."""
        return self._clock()

    def load(self, holder: HolderId) -> tuple[Load, float] | None:
        """What a holder has to do, and since how many seconds that is known; None until its page was read once."""
        reader = self._readers.get(holder)
        if reader is None or reader.known == UNREAD:
            return None
        return reader.load, self._clock() - reader.heard_at

    def hear(self, holder: HolderId, load: Load) -> None:
        """Take in what a holder said of its load by another way than its page, which is behind that."""
        reader = self._readers.get(holder)
        if reader is not None and reader.known != UNREAD:
            reader.load = load
            self._changed(holder)

    def seen(self, holder: HolderId) -> Seen | None:
        """What is known of a holder; None until its page was read once."""
        reader = self._readers.get(holder)
        if reader is None or reader.known == UNREAD:
            return None
        epoch, seq = reader.known
        return Seen(
            load=reader.load,
            age_s=self._clock() - reader.heard_at,
            epoch=epoch,
            seq=seq,
            blocks=self._holdings.blocks(holder),
            gaps=reader.gaps,
            reloads=reader.reloads,
            rejected=reader.rejected,
            behind=reader.ahead[1] - seq if reader.ahead[0] == epoch else reader.ahead[1] + 1,
            mismatches=reader.mismatches,
            implausible=reader.plausibility.crowded,
            hasty=reader.plausibility.hasty,
            aside=reader.plausibility.aside,
        )

    def reload(self, holder: HolderId) -> None:
        """Have a page read anew with its next message; what is known of it counts until then."""
        reader = self._readers.get(holder)
        if reader is not None:
            reader.restart()

    def _attend(self, holder: HolderId, tasks: asyncio.TaskGroup) -> None:
        """Have a follower for a holder; one whose page is silent for long is replaced."""
        reader = self._readers.get(holder)
        if reader is None:
            reader = self._readers[holder] = self._reader(holder)
        elif reader.silent_s <= SILENCE_S:
            return
        else:
            self._followers[holder].cancel()
            reader.asked_at = self._clock()
            reader.reloads += 1
        self._followers[holder] = tasks.create_task(self._follow(holder, reader))

    def _reader(self, holder: HolderId) -> PageReader:
        plausibility = Plausibility(self._new_blocks_per_s, self._clock)
        return PageReader(holder, self._holdings, self._mac_key, self._clock, plausibility)

    def _leave(self, holder: HolderId) -> None:
        self._followers.pop(holder).cancel()
        self._readers.pop(holder).close()
        self._holdings.forget(holder)
        self._changed(holder)

    def _changed(self, holder: HolderId) -> None:
        for watch in self._watches:
            watch.add(holder)

    async def _follow(self, holder: HolderId, reader: PageReader) -> None:
        waits, start = delays(0.02, 2.0), UNREAD
        while True:
            try:
                await self._read(holder, reader)
            except BadMessage as exc:
                reader.reject(exc)
            except Exception:
                self._fail("the page of %s is read anew", holder)
                reader.restart()  # a message may be half applied
            if reader.known > start:
                waits, start = delays(0.02, 2.0), reader.known
            await asyncio.sleep(next(waits))
            reader.reloads += 1

    async def _read(self, holder: HolderId, reader: PageReader) -> None:
        """Read a page until it must be read anew."""
        async with aclosing(self._pages.follow(holder)) as messages:
            async for sealed in messages:
                message = await reader.open(sealed)
                if message is None:
                    continue
                known = reader.known
                try:
                    goes_on = await reader.take(message)
                finally:
                    if reader.known > known:
                        self._changed(holder)
                if isinstance(message, Batch) and message.served and reader.known > known:
                    self._tell(holder, message.served)
                if not goes_on:
                    return

    def _tell(self, holder: HolderId, outcomes: tuple[Served, ...]) -> None:
        for served in outcomes:
            try:
                self._on_served(holder, served)
            except Exception:
                self._fail("an outcome of %s was not taken in", holder)

    async def _sweep(self) -> None:
        """Free in small steps, without end, what the departed and the replaced left in the holdings."""
        while True:
            more = False
            try:
                more = self._holdings.sweep(_SWEEP_NAMES)
            except Exception:
                self._fail("what %s left is freed later", "the departed")
            await asyncio.sleep(_SWEEP_REST_S if more else _LOOK_S)

    def _fail(self, what: str, whose: str) -> None:
        self.errors += 1
        log.exception(what, whose)
