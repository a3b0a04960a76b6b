"""One page as a router reads it: each message verified, taken in order, and set aside when it cannot be true."""

import asyncio
import logging
from collections.abc import Callable, Iterator

from .errors import BadMessage
from .holdings import Draft, Holdings
from .ids import HolderId, Level
from .plausible import Plausibility, new_blocks
from .wire import Changes, Checkpoint, Load, Message, Sealed, unseal

log = logging.getLogger(__name__)

Place = tuple[int, int]  # an epoch and a seq
UNREAD: Place = (-1, -1)
SLICE_NAMES = 4096  # of a checkpoint at once: one to two milliseconds
DOUBT_S = 5.0  # between two readings of a page whose digest is not met: what is wrong may be the page itself

_THREAD_BYTES = 256 << 10  # a body that takes milliseconds to verify


class PageReader:
    """Feeds one holder's page into holdings. What the holder has counts as it was while its page is read anew.

    A page that is set aside counts for nothing. It is read on, into a draft, so that removals are in it when it is
    taken up again.
    """

    def __init__(
        self,
        holder: HolderId,
        holdings: Holdings,
        mac_key: Callable[[HolderId, int], bytes],
        clock: Callable[[], float],
        plausibility: Plausibility,
    ) -> None:
        self._holder = holder
        self._holdings = holdings
        self._mac_key = mac_key
        self._clock = clock
        self._signed: tuple[int, bytes] = (-1, b"")  # an epoch and its key: deriving one costs more than verifying
        self._read = UNREAD  # the last message taken in; before `known` only while the page is read anew
        self._draft: Draft | None = None  # all up to `_read`, until that is as far as `known` and is plausible
        self._doubted_at = float("-inf")
        self._rejecting = False  # the last message was rejected, and that was logged
        self.plausibility = plausibility
        self.known = UNREAD  # the last message that the holdings account for
        self.ahead = UNREAD  # the furthest that was signed by the holder
        self.load = Load()
        self.heard_at = float("-inf")
        self.asked_at = clock()
        self.gaps = 0
        self.reloads = 0
        self.rejected = 0
        self.mismatches = 0

    @property
    def silent_s(self) -> float:
        """Since the page said something, or was begun to be read."""
        return self._clock() - max(self.heard_at, self.asked_at)

    async def open(self, sealed: Sealed) -> Message | None:
        """Verify and decode. None, counted, for what cannot be trusted: it changes nothing."""
        try:
            if sealed.holder != self._holder:
                raise BadMessage(f"{self._holder}: its page holds a message of {sealed.holder}")
            if sealed.epoch < self.known[0]:
                raise BadMessage(f"{self._holder}: epoch {sealed.epoch} is over; it is {self.known[0]}")
            if sealed.epoch != self._signed[0]:
                self._signed = (sealed.epoch, self._mac_key(self._holder, sealed.epoch))
            if len(sealed.body) > _THREAD_BYTES:
                return await asyncio.to_thread(unseal, sealed, self._signed[1])
            return unseal(sealed, self._signed[1])
        except BadMessage as exc:
            self.reject(exc)
            return None

    async def take(self, message: Message) -> bool:
        """Take in one message; False if the page must be read anew. What is known already changes nothing."""
        place = (message.epoch, message.seq)
        self.ahead = max(self.ahead, place)
        if place <= self._read:
            return True
        before = self._blocks
        if isinstance(message, Checkpoint):
            self._begin(await self._drafted(message.changes))
        elif self._read[1] < 0 or place != (self._read[0], self._read[1] + 1):
            self.gaps += 1
            return False
        elif self._draft is not None:
            self._draft.apply(message.changes)
        elif message.changes:
            self._holdings.apply(self._holder, message.changes)
        self._read = place
        if place < self.known:  # read anew, and not yet up to what is known
            return True
        told = isinstance(message, Checkpoint) or place == self.known  # of what was computed before
        new = 0 if told else new_blocks(message.changes, before, self._blocks)
        if place > self.known:
            self.known, self.load, self.heard_at, self._rejecting = place, message.load, self._clock(), False
        return self._settle(message, new) and self._adds_up(message.digest)

    def reject(self, error: BadMessage) -> None:
        """Count what cannot be trusted; of several behind one another the first is logged."""
        self.rejected += 1
        if not self._rejecting:
            log.warning("rejected: %s", error)
        self._rejecting = True

    def restart(self) -> None:
        """Take the page's next checkpoint for what the holder has, whatever is known already."""
        self._begin(None)
        self._read = (self.known[0], -1)

    def close(self) -> None:
        """Give up what is half read."""
        self._begin(None)

    def _begin(self, draft: Draft | None) -> None:
        if self._draft is not None:
            self._holdings.discard(self._draft)
        self._draft = draft

    async def _drafted(self, changes: tuple[Changes, ...]) -> Draft:
        """A checkpoint in slices, others' turns between them."""
        draft = self._holdings.draft()
        try:
            for part in _slices(changes):
                draft.apply(part)
                self.asked_at = self._clock()  # a page that takes long to read is not silent
                await asyncio.sleep(0)
        except BaseException:
            self._holdings.discard(draft)
            raise
        return draft

    @property
    def _blocks(self) -> int:
        return self._holdings.blocks(self._holder) if self._draft is None else self._draft.slot.blocks

    def _settle(self, message: Message, new: int) -> bool:
        """Let a page count that can be true, and no other; False if it must be read anew to go on aside."""
        draft, was_aside = self._draft, self.plausibility.aside
        counts = self._holdings.counts(self._holder) if draft is None else draft.slot.counts
        if self.plausibility.weigh(message, new, counts[Level.GPU], self._blocks):
            if draft is not None:
                self._holdings.install(self._holder, draft)
                self._draft = None
            return True
        if not was_aside:
            log.warning(
                "%s is set aside: it says it has %d blocks in gpu, of %d, and %d in all, %d of them just come",
                *(self._holder, counts[Level.GPU], message.load.total_blocks, self._blocks, new),
            )
            self._holdings.forget(self._holder)
        if draft is None:
            self.restart()
        return draft is not None

    def _adds_up(self, digest: bytes) -> bool:
        """Compare with what the holder says that it has; False if that calls for reading the page anew."""
        held = self._holdings.digest(self._holder) if self._draft is None else bytes(self._draft.slot.digest)
        if not digest or digest == held:
            return True
        self.mismatches += 1
        now = self._clock()
        if now - self._doubted_at < DOUBT_S:
            return True
        log.warning("%s: what is known at %s is not what it has", self._holder, self.known)
        self._doubted_at = now
        self.restart()
        return False


def _slices(changes: tuple[Changes, ...]) -> Iterator[list[Changes]]:
    part: list[Changes] = []
    size, full = 0, 8 * SLICE_NAMES
    for change in changes:
        for at in range(0, len(change.names), full):
            piece = change.names[at : at + full]
            part.append(Changes(change.tag, change.level, piece, change.resume))
            size += len(piece)
            if size >= full:
                yield part
                part, size = [], 0
    if part:
        yield part
