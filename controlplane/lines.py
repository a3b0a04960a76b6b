"""Requests whose replica has no room yet stand in line here, so that neither Ray nor an engine has a queue.

A prefix may be worth the wait for the replica that holds it, and that the policy has weighed; so a decision looks at
all replicas, and what was decided stays.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from ..directory import HolderId
from ..workers import Delta, Sampling, Ticket
from .errors import Overloaded
from .router_half import Wire

POLL_S = 0.005  # while somebody stands in line
_POLL_EACH_S = 20e-6  # and for each line: to look for room costs 3 us


class Doors(Protocol):
    """Says where there is room. See `Room`."""

    def admits(self, holder: HolderId, held: int) -> bool:
        """Whether a replica has room for one of the tickets issued for it, of which `held` have not been sent."""
        ...

    def idle(self, held: int) -> bool:
        """Whether a router has nothing in flight but what is held, of all replicas together."""
        ...


class Lines:
    """A line for each replica, first come, first served: fairness is the queue's, before the decision.

    Tickets of one replica are numbered in the order that they are sent, as what its page counts supposes. For one
    event loop.
    """

    def __init__(self, doors: Doors, max_waiting: int = 1000) -> None:
        self._doors = doors
        self._max_waiting = max_waiting
        self._lines: dict[HolderId, dict[asyncio.Future[None], None]] = {}
        self._poll: asyncio.TimerHandle | None = None
        self.waiting = 0

    async def stand(self, ticket: Ticket) -> None:
        """Wait until the replica that a ticket was issued for has room and all before it are gone.

        Raises `Overloaded` where too many wait; whoever calls minds the deadline.
        """
        holder = HolderId(ticket.ranks[0])
        if holder not in self._lines and self._doors.admits(holder, 1):
            return
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting} requests wait for the replicas that suit them; try again later")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(holder, {})[turn] = None
        self.waiting += 1
        self._keep_polling()
        try:
            await turn
        except BaseException:
            if turn in self._lines.get(holder, ()):
                self._remove(holder, turn)
            raise

    def _serve(self) -> None:
        for holder in list(self._lines):
            while (line := self._lines.get(holder)) and self._doors.admits(holder, len(line)):
                self._send_first(holder)
        if self._lines and self._doors.idle(self.waiting):
            self._send_first(next(iter(self._lines)))

    def _send_first(self, holder: HolderId) -> None:
        turn = next(iter(self._lines[holder]))
        self._remove(holder, turn)
        if not turn.done():  # one that is being cancelled leaves by itself
            turn.set_result(None)

    def _remove(self, holder: HolderId, turn: asyncio.Future[None]) -> None:
        del self._lines[holder][turn]
        self.waiting -= 1
        if not self._lines[holder]:
            del self._lines[holder]

    def _keep_polling(self) -> None:
        if self._poll is None and self._lines:
            pause_s = max(POLL_S, _POLL_EACH_S * len(self._lines))
            self._poll = asyncio.get_running_loop().call_later(pause_s, self._polled)

    def _polled(self) -> None:
        self._poll = None
        try:
            self._serve()
        finally:
            self._keep_polling()


class LinedWire:
    """A wire whose tickets stand in line first; not those of a further attempt, nor those whose place Ray chooses."""

    def __init__(self, wire: Wire, lines: Lines) -> None:
        self._wire = wire
        self._lines = lines

    async def __call__(self, ticket: Ticket, words: bytes, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        if ticket.ranks and not ticket.attempt:
            await self._lines.stand(ticket)
        async with aclosing(self._wire(ticket, words, sampling)) as deltas:
            async for delta in deltas:
                yield delta
