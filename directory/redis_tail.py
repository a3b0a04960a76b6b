"""One blocking read for all logs of a logical shard, shared by those who follow them."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from .backoff import delays
from .errors import BadMessage, PagesDown, SlotMoves
from .redis_client import RedisClient

logger = logging.getLogger(__name__)

Entry = tuple[bytes, list[bytes]]  # of a stream, as Redis replies: id, fields and values in turn

START = b"0-0"

_BLOCK_S = 0.2  # a follower that joins waits this long at most; heartbeats end most reads sooner
_FIRST_BLOCK_S = 0.01  # and where one has joined, more will
_ENTRIES = 64  # of one log in one read
_APART_S = 0.05  # between two rounds over logs that cannot be read together
_BACKLOG = 4096  # what a slow follower may leave unread; beyond, it loses the oldest and sees a gap

_FEW = 64  # logs whose every entry may be read by itself
_MANY = 320
_READS_PER_S = 64  # of all tails together, where the logs are many


class Pace:
    """How long tails rest between reads: not at all for few logs, so that many cost no more than a few per cent."""

    def __init__(self) -> None:
        self.tails = 0
        self.logs = 0

    @property
    def rest_s(self) -> float:
        crowded = min(1.0, max(0.0, (self.logs - _FEW) / (_MANY - _FEW)))
        return crowded * self.tails / _READS_PER_S


class Follower:
    """Where one reader stands in one log."""

    def __init__(self, position: bytes) -> None:
        self.position = position
        self._arrived: list[Entry] = []
        self._failure: BadMessage | None = None
        self._some: asyncio.Future[None] | None = None

    async def arrived(self) -> Sequence[Entry]:
        """What is behind the position, at least one entry. Raises `BadMessage` for what is no log."""
        if not self._arrived and self._failure is None:
            self._some = asyncio.get_running_loop().create_future()
            await self._some
        if self._failure is not None:
            raise self._failure
        arrived, self._arrived = self._arrived, []
        return arrived

    def deliver(self, asked: bytes, entries: list[Entry]) -> None:
        """Take in what was found behind the position that was asked for."""
        if asked != self.position:
            at = order(self.position)
            if at < order(asked):  # joined while others were read for; its turn comes
                return
            entries = [entry for entry in entries if order(entry[0]) > at]
        if entries:
            self.position = entries[-1][0]
            self._arrived += entries
            del self._arrived[:-_BACKLOG]
            self._wake()

    def fail(self, failure: BadMessage) -> None:
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._some is not None and not self._some.done():
            self._some.set_result(None)


class RedisTail:
    """Reads on for as long as someone follows."""

    def __init__(self, client: RedisClient, tag: str, pace: Pace) -> None:
        self._client = client
        self._tag = tag
        self._pace = pace
        self._followers: dict[bytes, list[Follower]] = {}
        self._joined = asyncio.Event()
        self._blocks = delays(_FIRST_BLOCK_S, _BLOCK_S)
        pace.tails += 1

    @contextmanager
    def join(self, log: str, position: bytes) -> Iterator[Follower]:
        """Follow a log from behind `position` while the context lasts."""
        follower, name = Follower(position), log.encode()
        self._followers.setdefault(name, []).append(follower)
        self._pace.logs += 1
        self._blocks = delays(_FIRST_BLOCK_S, _BLOCK_S)
        self._joined.set()
        try:
            yield follower
        finally:
            self._pace.logs -= 1
            others = [other for other in self._followers.pop(name, ()) if other is not follower]
            if others:
                self._followers[name] = others

    async def run(self) -> None:
        """Serve followers without end; while Redis is down, keep trying."""
        waits = delays(0.05, 0.5)
        while True:
            if not self._followers:
                self._joined.clear()
                await self._joined.wait()
            try:
                if not await self._read():
                    await asyncio.sleep(self._pace.rest_s)
            except PagesDown:  # said by every other verb; a reader only waits
                await asyncio.sleep(next(waits))
            except Exception:  # followers of all logs of the shard depend on this loop
                logger.exception("a read of %d logs is tried again", len(self._followers))
                await asyncio.sleep(next(waits))
            else:
                waits = delays(0.05, 0.5)

    async def _read(self) -> bool:
        """Read all logs at once, or one after the other where one of them spoils that; True if there may be more."""
        try:
            return await self._read_of(list(self._followers), "BLOCK", round(next(self._blocks) * 1000))
        except (BadMessage, SlotMoves):
            full = [await self._read_alone(name) for name in list(self._followers)]
            await asyncio.sleep(_APART_S)
            return any(full)

    async def _read_alone(self, name: bytes) -> bool:
        try:
            return name in self._followers and await self._read_of([name])
        except BadMessage as exc:
            failure = BadMessage(f"{name.decode()}: {exc}")
            for follower in self._followers.pop(name, ()):
                follower.fail(failure)
            return False

    async def _read_of(self, names: Collection[bytes], *blocking: str | int) -> bool:
        asked = {name: _first(self._followers[name]) for name in names}
        replies: list[tuple[bytes, list[Entry]]] | None = await self._client.once(
            self._tag, "XREAD", "COUNT", _ENTRIES, *blocking, "STREAMS", *asked, *asked.values()
        )
        full = False
        for name, entries in replies or ():
            full |= len(entries) == _ENTRIES
            for follower in self._followers.get(name, ()):
                follower.deliver(asked[name], entries)
        return full


def _first(followers: Sequence[Follower]) -> bytes:
    if len(followers) == 1:
        return followers[0].position
    return min((follower.position for follower in followers), key=order)


def order(place: bytes) -> tuple[int, int]:
    """A stream id as it sorts: an epoch and a seq."""
    epoch, _, seq = place.partition(b"-")
    return int(epoch), int(seq)
