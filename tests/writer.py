"""A publisher without engine and tasks: it says what its closure says, when a test tells it to."""

from collections.abc import Iterable

from kvplane.directory import Batch, Checkpoint, Closure, HolderId, Load, Pages, Sealed, seal
from kvplane.directory.digest import Digest
from kvplane.directory.ids import Level
from kvplane.directory.wire import Changes
from kvplane.tests.oracle import Oracle
from kvplane.tests.trees import BLOCK_TOKENS, key_of
from kvplane.workers.engine import Cleared, EngineEvent, Removed, Stored


def mac_key(holder: HolderId, epoch: int) -> bytes:
    return f"{holder} {epoch}".encode().ljust(32)


class Writer:
    """One holder's page, and the oracle of what its engine holds."""

    def __init__(self, holder: HolderId, epoch: int) -> None:
        self.holder = holder
        self.epoch = epoch
        self.seq = -1
        self.oracle = Oracle(BLOCK_TOKENS)
        self.closure = Closure(key_of, BLOCK_TOKENS)
        self._stands = False

    def play(self, event: EngineEvent) -> None:
        """Let the engine tell an event."""
        self.oracle.note(event)
        match event:
            case Stored():
                self.closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
            case Removed():
                self.closure.remove(event.hashes, event.tier)
            case Cleared():
                self.closure.clear()

    def batch(self) -> Sealed:
        """The next batch: what is yet to be told."""
        self.seq += 1
        changes = self.closure.drain()
        return self._sealed(Batch(self.holder, self.epoch, self.seq, Load(), changes, digest=self.closure.digest))

    def whole(self) -> Sealed:
        """A checkpoint as of the present number."""
        changes = self.closure.holding()
        return self._sealed(Checkpoint(self.holder, self.epoch, self.seq, Load(), changes, digest=self.closure.digest))

    async def flush(self, pages: Pages) -> None:
        """Tell what is yet to be told; if the page is lost, all of it, once."""
        if self._stands:
            self._stands = not (await pages.append(self.batch())).lost
        if not self._stands:
            self.seq += 1
            await pages.checkpoint(self.whole())
            self._stands = not (await pages.append(self.batch())).lost

    def _sealed(self, message: Batch | Checkpoint) -> Sealed:
        return seal(message, mac_key(self.holder, self.epoch))


def digest_of(holding: Iterable[Changes]) -> bytes:
    """What a holding comes to, summed up anew."""
    digest = Digest()
    for change in holding:
        digest.add(Level(change.level), change.names)
    return bytes(digest)
