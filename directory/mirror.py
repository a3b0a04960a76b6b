"""A router's copy of all pages: each followed by itself, verified, in order, and read anew when in doubt."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field

from .backoff import delays
from .errors import BadMessage
from .holdings import Holdings
from .ids import HolderId
from .pages import Pages
from .wire import Batch, Checkpoint, Load, Message, Sealed, Served, unseal

log = logging.getLogger(__name__)

SILENCE_S = 5.0  # twenty heartbeats

_LOOK_S = 0.25
_UNREAD = (-1, -1)


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


@dataclass(slots=True)
class _Page:
    asked_at: float
    place: tuple[int, int] = _UNREAD  # (epoch, seq) of all that is in the holdings
    load: Load = field(default_factory=Load)
    heard_at: float = float("-inf")
    gaps: int = 0
    reloads: int = 0
    rejected: int = 0
    doubted: bool = False  # the last message was rejected, and that was logged


class Mirror:
    """Feeds pages into holdings. A page that misbehaves costs only itself; a lost one keeps what it last said."""

    def __init__(
        self,
        pages: Pages,
        holdings: Holdings,
        mac_key: Callable[[HolderId, int], bytes],
        on_served: Callable[[HolderId, Served], None],
        clock: Callable[[], float],
    ) -> None:
        self._pages = pages
        self._holdings = holdings
        self._mac_key = mac_key
        self._on_served = on_served
        self._clock = clock
        self._seen: dict[HolderId, _Page] = {}
        self._followers: dict[HolderId, asyncio.Task[None]] = {}
        self.errors = 0  # exceptions that no page explains; each was logged

    async def run(self, holders: Callable[[], Collection[HolderId]]) -> None:
        """Follow the live holders without end; one that leaves is followed until it falls silent, then forgotten.

        A replica that drains is no longer live, but still tells how its last requests went.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                live = set(holders())
                for holder in self._seen.keys() - live:
                    if self._is_silent(self._seen[holder]):
                        self._leave(holder)
                for holder in live:
                    self._attend(holder, tasks)
                await asyncio.sleep(_LOOK_S)

    def seen(self, holder: HolderId) -> Seen | None:
        """What is known of a holder; None until its page was read once."""
        page = self._seen.get(holder)
        if page is None or page.place == _UNREAD:
            return None
        return Seen(
            load=page.load,
            age_s=self._clock() - page.heard_at,
            epoch=page.place[0],
            seq=page.place[1],
            blocks=self._holdings.blocks(holder),
            gaps=page.gaps,
            reloads=page.reloads,
            rejected=page.rejected,
        )

    def _attend(self, holder: HolderId, tasks: asyncio.TaskGroup) -> None:
        """Have a follower for a holder; one whose page is silent for long is replaced."""
        page = self._seen.get(holder)
        if page is None:
            page = self._seen[holder] = _Page(asked_at=self._clock())
        elif not self._is_silent(page):
            return
        else:
            self._followers[holder].cancel()
            page.asked_at = self._clock()
            page.reloads += 1
        self._followers[holder] = tasks.create_task(self._follow(holder, page))

    def _is_silent(self, page: _Page) -> bool:
        return self._clock() - max(page.heard_at, page.asked_at) > SILENCE_S

    def _leave(self, holder: HolderId) -> None:
        self._followers.pop(holder).cancel()
        self._holdings.forget(holder)
        del self._seen[holder]

    async def _follow(self, holder: HolderId, page: _Page) -> None:
        waits, start = delays(0.02, 2.0), _UNREAD
        while True:
            try:
                await self._read(holder, page)
            except BadMessage as exc:
                self._reject(page, exc)
            except Exception:
                self._fail("the page of %s is read anew", holder)
                page.place = (page.place[0], -1)  # what was half applied is replaced by the next checkpoint
            if page.place > start:
                waits, start = delays(0.02, 2.0), page.place
            await asyncio.sleep(next(waits))
            page.reloads += 1

    async def _read(self, holder: HolderId, page: _Page) -> None:
        """Read a page until it skips."""
        async with aclosing(self._pages.follow(holder)) as messages:
            async for sealed in messages:
                try:
                    in_order = self._take(holder, page, self._opened(holder, page, sealed))
                except BadMessage as exc:
                    self._reject(page, exc)
                    continue
                if not in_order:
                    page.gaps += 1
                    return

    def _opened(self, holder: HolderId, page: _Page, sealed: Sealed) -> Message:
        if sealed.holder != holder:
            raise BadMessage(f"{holder}: its page holds a message of {sealed.holder}")
        if sealed.epoch < page.place[0]:
            raise BadMessage(f"{holder}: epoch {sealed.epoch} is over; it is {page.place[0]}")
        return unseal(sealed, self._mac_key(holder, sealed.epoch))

    def _take(self, holder: HolderId, page: _Page, message: Message) -> bool:
        """Take in one message; False if something before it is missing. What is known already changes nothing."""
        place = (message.epoch, message.seq)
        if place <= page.place:
            return True
        if isinstance(message, Checkpoint):
            self._holdings.replace(holder, message.changes)
        elif place == (page.place[0], page.place[1] + 1) and page.place[1] >= 0:
            self._holdings.apply(holder, message.changes)
        else:
            return False
        page.place, page.load, page.heard_at, page.doubted = place, message.load, self._clock(), False
        if isinstance(message, Batch):
            self._tell(holder, message.served)
        return True

    def _tell(self, holder: HolderId, outcomes: tuple[Served, ...]) -> None:
        for served in outcomes:
            try:
                self._on_served(holder, served)
            except Exception:
                self._fail("an outcome of %s was not taken in", holder)

    def _reject(self, page: _Page, error: BadMessage) -> None:
        page.rejected += 1
        if not page.doubted:
            log.warning("rejected: %s", error)
        page.doubted = True

    def _fail(self, what: str, holder: HolderId) -> None:
        self.errors += 1
        log.exception(what, holder)
