"""Look-ups that go on whatever happens, and whether they find less than there is."""

import asyncio
from collections.abc import Mapping, Sequence

from kvplane.directory import HolderId, Holdings, Prefix, Segment

from .forest import BLOCK_TOKENS, KEY
from .reading import Watch, Watched

_APART_S = 0.005


class Watcher:
    """Asks the watched prompts in turn, as a router does, and counts."""

    def __init__(self, holdings: Holdings, watches: Sequence[Watch]) -> None:
        self._holdings = holdings
        self._watches = watches
        self._watched = Watched()

    async def run(self) -> None:
        """Ask one prompt after the other without end; none where none is watched."""
        while self._watches:
            for words, there in self._watches:
                self.look(words, there)
                await asyncio.sleep(_APART_S)

    def look(self, words: bytes, there: Mapping[HolderId, int]) -> None:
        """One look-up of a prompt of which holders have so many blocks."""
        asked, lost, failed = self._watched.asked + 1, self._watched.lost_hits, self._watched.failed
        try:
            found = self._holdings.find(Prefix(words, BLOCK_TOKENS, (Segment(KEY, len(words)),))).table()
        except Exception:
            failed += 1
        else:
            lost += any(found.get(holder, (0,))[0] < blocks for holder, blocks in there.items())
        self._watched = Watched(asked, lost, failed)

    def take(self) -> Watched:
        """What came of them since the last time."""
        watched, self._watched = self._watched, Watched()
        return watched
