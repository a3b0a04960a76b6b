"""What a holder holds at one place of its page, in a few numbers: for comparing copies that are kept apart."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from .digest import Digest
from .errors import BadMessage
from .ids import LEVELS, HolderId, Level
from .page_reader import Place
from .pages import Pages
from .wire import Changes, Checkpoint, Message, Sealed, names_of, unseal


class Account(msgspec.Struct, frozen=True):
    """Two accounts of one holder at one place are equal, or one of them is wrong."""

    holder: HolderId
    epoch: int
    seq: int
    digest: bytes
    blocks: tuple[int, int, int]  # names whose level is gpu, cpu, disk

    @property
    def place(self) -> Place:
        return self.epoch, self.seq


@dataclass(slots=True)
class PageRead:
    """What a page that was read anew says: its account behind each wanted batch, and where it stands.

    A checkpoint may say already what the batch behind it is going to say. So where `checkpoint` equals another account
    of its place both are right, and where it does not, nothing is known.
    """

    accounts: dict[Place, Account] = field(default_factory=dict)
    checkpoint: Account | None = None
    place: Place | None = None
    flaw: str | None = None  # why reading ended before its time


def account_of(holder: HolderId, place: Place, changes: Iterable[Changes]) -> Account:
    """The account of a whole holding, in which each name stands once."""
    digest, blocks = Digest(), Counter[Level]()
    for change in changes:
        level = Level(change.level)
        digest.add(level, change.names)
        blocks[level] += len(change.names) // 8
    gpu, cpu, disk = (blocks[level] for level in LEVELS)
    return Account(holder, *place, bytes(digest), (gpu, cpu, disk))


@asynccontextmanager
async def reading(
    pages: Pages, holder: HolderId, mac_key: Callable[[HolderId, int], bytes], wait_s: float
) -> AsyncIterator["Reading"]:
    """A page read anew from the store, up to its checkpoint; places that are learned from here on are behind it.

    Each part of the reading takes `wait_s` seconds at most.
    """
    async with aclosing(pages.follow(holder)) as messages:
        begun = Reading(messages, _Table(holder, mac_key), wait_s)
        await begun.begin()
        yield begun


class Reading:
    """One page in a table of its own."""

    def __init__(self, messages: AsyncGenerator[Sealed, None], table: "_Table", wait_s: float) -> None:
        self._messages = messages
        self._table = table
        self._wait_s = wait_s
        self._read = PageRead()

    async def begin(self) -> None:
        """Take in the checkpoint."""
        async with self._bounded("it is not there"):
            await self._take(await anext(self._messages), ())

    async def at(self, places: Collection[Place]) -> PageRead:
        """Read on until behind the last of the places, and tell the account at each."""
        read = self._read
        async with self._bounded("nothing more came"):
            while read.flaw is None and read.place is not None and read.place < max(places, default=(0, 0)):
                await self._take(await anext(self._messages), places)
        return read

    async def _take(self, sealed: Sealed, places: Collection[Place]) -> None:
        read = self._read
        message = await asyncio.to_thread(self._table.take, sealed)
        read.place = (message.epoch, message.seq)
        if isinstance(message, Checkpoint):
            read.checkpoint = await asyncio.to_thread(self._table.account, read.place)
        elif read.place in places:
            read.accounts[read.place] = await asyncio.to_thread(self._table.account, read.place)

    @asynccontextmanager
    async def _bounded(self, otherwise: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._wait_s):
                yield
        except TimeoutError:
            self._read.flaw = otherwise
        except BadMessage as exc:
            self._read.flaw = str(exc)


class _Table:
    """A page folded in the plainest way there is."""

    def __init__(self, holder: HolderId, mac_key: Callable[[HolderId, int], bytes]) -> None:
        self._holder = holder
        self._mac_key = mac_key
        self._levels: dict[int, int] = {}
        self._place: Place | None = None

    def take(self, sealed: Sealed) -> Message:
        """Take in one message. Raises `BadMessage`, also for one that does not follow on the last."""
        message = unseal(sealed, self._mac_key(self._holder, sealed.epoch))
        place = (message.epoch, message.seq)
        last = self._place
        if isinstance(message, Checkpoint) != (last is None) or (last and place != (last[0], last[1] + 1)):
            raise BadMessage(f"{self._holder}: {place} does not follow on {last or 'a checkpoint'}")
        for change in message.changes:
            self._levels.update(dict.fromkeys(names_of(change), change.level))
        self._place = place
        return message

    def account(self, place: Place) -> Account:
        """All that was taken in."""
        names, levels = np.fromiter(self._levels, "<u8"), np.fromiter(self._levels.values(), "u1")
        changes = [Changes("", level, names[levels == level].tobytes()) for level in LEVELS]
        return account_of(self._holder, place, changes)
