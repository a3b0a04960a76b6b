"""An engine whose cache changes when a test says so, and a store of pages that fails when a test says so."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from kvplane.directory import Appended, Batch, Checkpoint, MemoryPages, PagesDown, Sealed, holder_id, unseal
from kvplane.directory.wire import Message, names_of
from kvplane.workers.engine import Capacity, Delta, EngineDead, EngineEvent, EngineLoad, EngineRequest
from kvplane.workers.publisher import Identity

HOLDER = holder_id("r-0")
IDENTITY = Identity(HOLDER, 3, b"k" * 32)


class ScriptedEngine:
    """Its cache changes when a test says so."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[Sequence[EngineEvent] | EngineDead]()
        self.waiting = 0

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        raise EngineDead("this engine only tells events")

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        while True:
            events = await self.queue.get()
            if isinstance(events, EngineDead):
                raise events
            yield events

    def load(self) -> EngineLoad:
        return EngineLoad(self.waiting, 1, 2, 3)

    def capacity(self) -> Capacity:
        return Capacity(blocks=64, block_tokens=4, max_prompt_tokens=100, max_sequences=4)

    def say(self, *events: EngineEvent) -> None:
        self.queue.put_nowait(events)


class FlakyPages(MemoryPages):
    """A store that can be down, can forget, can hold an append back, and notes all that was written."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refused = 0  # calls while it was down
        self.open = asyncio.Event()
        self.open.set()
        self.forget_after: int | None = None  # drop the page behind a batch of so many names
        self.written: list[Message] = []

    async def append(self, batch: Sealed) -> Appended:
        await self.open.wait()
        self._check()
        appended = await super().append(batch)
        if not appended.lost:
            self.written.append(unseal(batch, IDENTITY.mac_key))
            if self.forget_after == sum(len(names_of(change)) for change in self.written[-1].changes):
                self.forget_after = None
                await super().drop(HOLDER)
        return appended

    async def checkpoint(self, checkpoint: Sealed) -> None:
        self._check()
        await super().checkpoint(checkpoint)
        self.written.append(unseal(checkpoint, IDENTITY.mac_key))

    async def drop(self, holder: str) -> None:
        self._check()
        await super().drop(HOLDER)

    def _check(self) -> None:
        if self.down:
            self.refused += 1
            raise PagesDown("down, as the test says")

    @property
    def batches(self) -> list[Batch]:
        return [message for message in self.written if isinstance(message, Batch)]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return [message for message in self.written if isinstance(message, Checkpoint)]

    @property
    def standing(self) -> dict[int, int]:
        """Each name's level, for who reads from the last checkpoint on."""
        names: dict[int, int] = {}
        for message in self.written:
            if isinstance(message, Checkpoint):
                names.clear()
            names.update((name, change.level) for change in message.changes for name in names_of(change))
        return {name: level for name, level in names.items() if level}

    def outcomes(self) -> list[str]:
        return [served.decision for batch in self.batches for served in batch.served]
