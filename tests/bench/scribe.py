"""Writes pages as publishers do, from ready-made names, and faster: for measuring those who read."""

import asyncio
from array import array
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from kvplane.directory import Batch, Changes, Checkpoint, HolderId, Level, Load, Pages, Place, Sealed, seal
from kvplane.directory.digest import Digest

from .forest import KEY, Stretch
from .kvplane_index import holder_of
from .reader import KEYRING

BATCH_BLOCKS = (64, 512)

_EPOCH = 1
_LOAD = Load(20_000, 40, 9_000, 50_000, 1 << 24)


class Scribe:
    """The page of one holder."""

    def __init__(self, replica: int) -> None:
        self.holder = holder_of(replica)
        self._key = KEYRING.mac_key(self.holder, _EPOCH)
        self._digest = Digest()
        self._seq = 0
        self._random = Random(replica)

    @property
    def place(self) -> Place:
        """Of the last message made."""
        return _EPOCH, self._seq

    @property
    def digest(self) -> bytes:
        """What all messages made come to."""
        return bytes(self._digest)

    def begin(self) -> Sealed:
        """A page with nothing in it."""
        return seal(Checkpoint(self.holder, _EPOCH, self._seq, _LOAD, (), self.digest), self._key)

    def batches(self, names: Sequence[int], level: Level) -> list[Sealed]:
        """These names now stand at a level, gpu or none, in batches of 64 to 512."""
        made: list[Sealed] = []
        at = 0
        while at < len(names):
            size = self._random.randint(*BATCH_BLOCKS)
            made.append(self._batch(array("Q", names[at : at + size]).tobytes(), level))
            at += size
        return made

    def _batch(self, names: bytes, level: Level) -> Sealed:
        self._seq += 1
        if level is Level.NONE:
            self._digest.remove(Level.GPU, names)
        else:
            self._digest.add(level, names)
        changes = (Changes(KEY.tag, level, names),)
        return seal(Batch(self.holder, _EPOCH, self._seq, _LOAD, changes, (), self.digest), self._key)


class Scribes:
    """The pages of a fleet."""

    def __init__(self, pages: Pages, replicas: int) -> None:
        self._pages = pages
        self._scribes = [Scribe(replica) for replica in range(replicas)]

    @property
    def places(self) -> Mapping[HolderId, Place]:
        return {scribe.holder: scribe.place for scribe in self._scribes}

    @property
    def digests(self) -> Mapping[HolderId, bytes]:
        return {scribe.holder: scribe.digest for scribe in self._scribes}

    async def begin(self) -> None:
        """Every page, empty."""
        await asyncio.gather(*(self._pages.checkpoint(scribe.begin()) for scribe in self._scribes))

    def made(self, stretches: Iterable[Stretch], level: Level) -> Sequence[Sequence[Sealed]]:
        """What each replica has to say for these stretches to stand at a level."""
        names: list[list[int]] = [[] for _ in self._scribes]
        for stretch in stretches:
            for replica in stretch.replicas:
                names[replica] += stretch.names
        return [scribe.batches(found, level) for scribe, found in zip(self._scribes, names, strict=True)]

    async def write(self, made: Sequence[Sequence[Sealed]]) -> None:
        """Append all, each page in order."""
        await asyncio.gather(*(self._append(batches) for batches in made))

    async def _append(self, batches: Sequence[Sealed]) -> None:
        for batch in batches:
            appended = await self._pages.append(batch)
            assert not appended.lost, "each page has one writer"
