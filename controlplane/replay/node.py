"""One simulated replica, told and heard as a real one is: by tickets in, and a page out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from ...directory import Closure, DomainKey, Load, Pages, Served
from ...workers import Ticket
from ...workers.engine import Capacity, EngineEvent, EngineLoad, Removed, Stored
from ...workers.pace import Pace
from ...workers.publisher import Identity, Publisher
from .job import CacheChange, Job
from .simulated_replica import SimulatedReplica
from .timing import Timing
from .words import words_of


class Node:
    """A replica's timer, and what a publisher asks of its engine. For one event loop, whose time is virtual."""

    def __init__(
        self,
        replica: SimulatedReplica,
        block_tokens: int,
        capacity: Capacity,
        salts: Sequence[str],
        key_of: Callable[[str], DomainKey],
        pages: Pages,
        identity: Identity,
        pace: Pace,
        on_end: Callable[[Job, Ticket], None],
    ) -> None:
        self.replica = replica
        self.holder = identity.holder
        self._block_tokens = block_tokens
        self._capacity = capacity
        self._salts = salts  # of each domain, by its number
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Sequence[EngineEvent]] = asyncio.Queue()
        self._publisher = Publisher(
            self,  # type: ignore[arg-type]  # a publisher generates nothing
            pages,
            Closure(key_of, block_tokens),
            identity,
            self._loop.time,
            pace,
        )
        self._tickets: dict[int, Ticket] = {}  # by the key of the job
        self._timer: asyncio.TimerHandle | None = None
        self._last_ms = 0.0

    @property
    def now_ms(self) -> float:
        """Milliseconds of the loop's time, no less than a step has ended at: seconds are rounded."""
        self._last_ms = max(self._last_ms, self._loop.time() * 1e3)
        return self._last_ms

    @property
    def sequences(self) -> int:
        """Requests that it was given and that have not ended."""
        return len(self._tickets)

    def retime(self, timing: Timing) -> None:
        """Let steps take another time from the next one on."""
        self._catch_up(self.now_ms)
        self.replica.retime(timing, self.now_ms)
        self._wind()

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._publisher.run()

    def submit(self, job: Job, ticket: Ticket) -> None:
        """Begin a request."""
        self._catch_up(self.now_ms)
        self._publisher.counted(ticket.router, ticket.number)
        if not ticket.published:
            self._publisher.hide(ticket.salt)
        self._tickets[job.key] = ticket
        self.replica.submit(job, self.now_ms)
        assert not job.refused, "what fits in no cache is told before a replay"
        self._wind()

    def declines(self, ticket: Ticket) -> Load | None:
        """What it has to do, if that is more than a ticket supposes."""
        self.catch_up()
        load = self._publisher.load()
        if ticket.suits(self.holder, load.waiting_prefill_tokens):
            return None
        self._publisher.counted(ticket.router, ticket.number)
        return load

    def catch_up(self) -> None:
        """Let all happen that is due by now."""
        self._catch_up(self.now_ms)
        self._wind()

    def stop(self) -> dict[int, Ticket]:
        """Go down at once; the tickets that were being served, by job."""
        if self._timer is not None:
            self._timer.cancel()
        tickets, self._tickets = self._tickets, {}
        return tickets

    async def events(self) -> AsyncIterator[Sequence[EngineEvent]]:
        """What a publisher reads of an engine."""
        while True:
            yield await self._told.get()

    def load(self) -> EngineLoad:
        load = self.replica.load()
        return EngineLoad(
            load.waiting_prefill_tokens,
            load.running_sequences,
            load.decode_blocks,
            load.free_blocks,
            load.waiting_sequences,
        )

    def capacity(self) -> Capacity:
        return self._capacity

    def _catch_up(self, now_ms: float) -> None:
        changed = self.replica.advance(now_ms)
        if events := [self._event(change) for change in self.replica.changes()]:
            self._told.put_nowait(events)
        for job in changed:
            if job.ended_ms is not None:
                self._end(job)

    def _end(self, job: Job) -> None:
        ticket = self._tickets.pop(job.key)
        assert job.began_ms is not None
        assert job.first_token_ms is not None
        assert job.ended_ms is not None
        self._publisher.served(
            Served(
                decision=ticket.id,
                router=ticket.router,
                finish="length",
                prompt_tokens=job.prompt_tokens,
                cached_tokens=job.cached_tokens,
                output_tokens=job.output_tokens,
                queue_ms=job.began_ms - job.arrived_ms,
                prefill_ms=job.first_token_ms - job.began_ms,
                total_ms=job.ended_ms - job.arrived_ms,
                steps=job.steps,
                step_tokens=job.step_tokens,
            )
        )
        self._on_end(job, ticket)

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (next_ms := self.replica.next_ms()) is not None:
            self._timer = self._loop.call_at(next_ms / 1e3, self._ring, next_ms)

    def _ring(self, now_ms: float) -> None:
        self._timer = None
        self._last_ms = max(self._last_ms, now_ms)
        self._catch_up(now_ms)
        self._wind()

    def _event(self, change: CacheChange) -> EngineEvent:
        domain = change.domain
        hashes = tuple(_hash(domain, block_id) for block_id in change.block_ids)
        if not change.stored:
            return Removed(hashes, change.tier)
        parent = None if change.parent is None else _hash(domain, change.parent)
        tokens = len(hashes) * self._block_tokens
        words = words_of(np.array(change.block_ids, np.int64), tokens, self._block_tokens)
        return Stored(hashes, parent, words, change.tier, self._salts[domain])


def _hash(domain: int, block_id: int) -> int:
    """An engine's own name of a block: ids have 64 bits and a sign."""
    return (domain << 65) + block_id
