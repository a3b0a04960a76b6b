"""The router half of a request: decide once, send, pass tokens on; go on elsewhere when a replica fails."""

import asyncio
import logging
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from ..workers import Delta, Sampling, Ticket
from .decide import Asked, Decider
from .decision import Decision
from .errors import Overloaded, TimedOut
from .roster import Roster

log = logging.getLogger(__name__)

_PAUSE_S = 0.05  # more with each attempt


class ReplicaGone(Exception):
    """The replica's process ended; nothing may be sent to it again."""


class ReplicaUnwell(Exception):
    """The replica cannot serve this request; another may."""


class Wire(Protocol):
    """The transport between the halves: sends a ticket, yields what the replica generates.

    Raises `ReplicaGone`, `ReplicaUnwell`, `Overloaded`. Closing the iterator cancels the generation.
    """

    def __call__(self, ticket: Ticket, words: bytes, sampling: Sampling, /) -> AsyncGenerator[Delta, None]: ...


@dataclass(frozen=True, slots=True)
class Answering:
    """An answer whose first token has come."""

    decision: Decision
    first: Delta
    rest: AsyncGenerator[Delta, None]
    close: Callable[[], Awaitable[None]]  # ends the generation if it still runs, and settles the ticket


class RouterHalf:
    """Joins the decision to the transport. `record` writes a decision down before it is carried out."""

    def __init__(
        self, decider: Decider, wire: Wire, roster: Roster, record: Callable[[Decision], None], attempts: int = 4
    ) -> None:
        self._decider = decider
        self._wire = wire
        self._roster = roster
        self._record = record
        self._attempts = attempts
        self.repeats = 0

    async def answer(self, asked: Asked, sampling: Sampling) -> Answering:
        """Bring a request to its first token. Raises `TimedOut` at its deadline, `Overloaded` when attempts run out."""
        decided = self._decider.decide(asked)
        self._record(decided.decision)
        deltas = self._deltas(decided.ticket, asked.words, sampling)
        close = partial(self._close, decided.ticket, deltas)
        try:
            async with asyncio.timeout(max(0.0, asked.deadline_s - time.time())):
                return Answering(decided.decision, await anext(deltas), deltas, close)
        except TimeoutError as exc:
            await close()
            raise TimedOut("no replica produced a token before the request's deadline; try again later") from exc
        except BaseException:
            await close()
            raise

    async def _deltas(self, ticket: Ticket, words: bytes, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """All tokens, from as many replicas as it takes: what one has generated is prompt to the next.

        A seed's draws begin anew there, so an answer that outlived its replica is a good one, not the very same.
        """
        first: Delta | None = None
        produced: list[int] = []
        for attempt in range(self._attempts):
            left = replace(sampling, max_tokens=sampling.max_tokens - len(produced))
            async with aclosing(self._wire(ticket, words + _packed(produced), left)) as deltas:
                try:
                    async for delta in deltas:
                        first = first or delta
                        produced += delta.token_ids
                        yield replace(first, token_ids=delta.token_ids, finish=delta.finish)
                    return
                except (ReplicaGone, ReplicaUnwell) as exc:
                    ticket = self._elsewhere(ticket, exc)
            await asyncio.sleep(_PAUSE_S * attempt)
        raise Overloaded(f"{self._attempts} replicas in turn failed this request; try again later")

    def _elsewhere(self, ticket: Ticket, exc: Exception) -> Ticket:
        self.repeats += 1
        where = self._roster.whereabouts(ticket.id)
        log.warning("request %s failed on replica %s: %r; trying elsewhere", ticket.id, where, exc)
        if where is None:
            return ticket
        if isinstance(exc, ReplicaGone):
            self._roster.bury(where)
        return self._decider.repeat(ticket, without=where)

    async def _close(self, ticket: Ticket, deltas: AsyncGenerator[Delta, None]) -> None:
        self._decider.ended(ticket)
        await deltas.aclose()


def _packed(token_ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(token_ids)}I", *token_ids)
