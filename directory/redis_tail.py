"""One blocking read for all pages of a logical shard, shared by those who follow them."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from .backoff import delays
from .errors import PagesDown
from .redis_client import RedisClient

logger = logging.getLogger(__name__)

Entry = tuple[str, dict[bytes, bytes]]  # a stream entry: id, fields

START = "0-0"

_BLOCK_MS = 200  # a follower that joins waits this long at most; heartbeats end most reads sooner
_ENTRIES = 256  # of one page in one read
_BACKLOG = 4096  # what a slow follower may leave unread; beyond, it loses the oldest and sees a gap


class Follower:
    """Where one reader stands in one log."""

    def __init__(self, log: str, position: str) -> None:
        self.log = log
        self.position = position
        self._arrived: deque[Entry] = deque(maxlen=_BACKLOG)
        self._some = asyncio.Event()

    def deliver(self, entries: list[Entry]) -> None:
        fresh = [entry for entry in entries if order(entry[0]) > order(self.position)]
        if fresh:
            self.position = fresh[-1][0]
            self._arrived.extend(fresh)
            self._some.set()

    async def entries(self) -> AsyncIterator[Entry]:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._arrived:
                yield self._arrived.popleft()


class RedisTail:
    """Reads on for as long as someone follows."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._followers: set[Follower] = set()
        self._joined = asyncio.Event()

    @contextmanager
    def join(self, log: str, position: str) -> Iterator[Follower]:
        """Follow a log from behind `position` while the context lasts."""
        follower = Follower(log, position)
        self._followers.add(follower)
        self._joined.set()
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    async def run(self) -> None:
        """Serve followers without end; while Redis is down, keep trying."""
        waits = delays(0.05, 1.0)
        while True:
            if not self._followers:
                self._joined.clear()
                await self._joined.wait()
            try:
                await self._read()
            except PagesDown:  # said by every other verb; a reader only waits
                await asyncio.sleep(next(waits))
            except Exception:  # followers of all pages of the shard depend on this loop
                logger.exception("a read of %d pages is tried again", len(self._followers))
                await asyncio.sleep(next(waits))
            else:
                waits = delays(0.05, 1.0)

    async def _read(self) -> None:
        positions: dict[str, str] = {}
        for follower in self._followers:
            positions[follower.log] = min(positions.get(follower.log, follower.position), follower.position, key=order)
        logs = list(positions)
        replies = await self._client.call(
            logs[0], "XREAD", "COUNT", _ENTRIES, "BLOCK", _BLOCK_MS, "STREAMS", *logs, *positions.values()
        )
        for name, entries in replies:
            arrived = [(place.decode(), fields) for place, fields in entries]
            for follower in self._followers:
                if follower.log == name.decode():
                    follower.deliver(arrived)


def order(place: str) -> tuple[int, int]:
    """A stream id as it sorts: an epoch and a seq."""
    epoch, _, seq = place.partition("-")
    return int(epoch), int(seq)
