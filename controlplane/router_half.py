"""The router half of a request: decide, send, pass tokens on; again if a replica declines, elsewhere if it fails."""

import asyncio
import logging
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import msgspec

from ..directory import Load
from ..workers import Delta, Ending, Sampling, Ticket, Usage
from .decide import Asked, Decider
from .decision import Decision
from .errors import Overloaded, TimedOut
from .roster import Roster

log = logging.getLogger(__name__)

_PAUSE_S = 0.05  # more with each attempt
_STALL_S = 120.0  # between two tokens
DECISIONS = 16  # of one request; the last one no replica may decline
_ENGINES_AT_MOST = 2  # a request that ends every engine it meets must not meet them all


class ReplicaGone(Exception):
    """The replica's process ended; nothing may be sent to it again."""


class EngineLost(ReplicaGone):
    """The replica's engine died, of this request or of another; Serve will replace it."""


class ReplicaUnwell(Exception):
    """The replica cannot serve this request; another may."""


class ReplicaBusier(Exception):
    """The replica declined: it has more to do than the ticket supposes."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.load = load


class Wire(Protocol):
    """The transport between the halves: sends a ticket, yields what the replica generates.

    Raises `ReplicaBusier` at once, `ReplicaGone`, `ReplicaUnwell`, `Overloaded`. Closing the iterator cancels the
    generation.
    """

    def __call__(self, ticket: Ticket, words: bytes, sampling: Sampling, /) -> AsyncGenerator[Delta, None]: ...


@dataclass(frozen=True, slots=True)
class Answering:
    """An answer whose first token has come."""

    decision: Decision
    first: Delta
    rest: AsyncGenerator[Delta, None]
    close: Callable[[], Awaitable[None]]  # ends the generation if it still runs, and settles the ticket
    stop: Callable[[], Awaitable[None]]  # the same where the client has all it asked for; billed when it returns


@dataclass(slots=True)
class Attempt:
    """What has come of an attempt so far, in tokens."""

    ticket: Ticket
    prompt: int
    cached: int = 0
    output: int = 0

    def used(self, model: str, block_tokens: int, finish: Ending) -> Usage:
        """What it is billed as, unless its replica lives to say what it generated."""
        used = Usage.of(self.ticket, model, block_tokens, self.prompt, self.cached, self.output, finish)
        return msgspec.structs.replace(used, observed=True)


Bill = Callable[[Attempt, Ending], Awaitable[None]]


async def _nobody(attempt: Attempt, ending: Ending) -> None:
    """Where nothing is billed."""


class RouterHalf:
    """Joins the decision to the transport. `record` writes a decision down and gives its traceparent.

    `bill` takes down an attempt whose end its replica does not see, or may not live to account for, before the request
    goes on; `declined` hears of a decision that its replica did not carry out.
    """

    def __init__(
        self,
        decider: Decider,
        wire: Wire,
        roster: Roster,
        record: Callable[[Decision], str],
        bill: Bill = _nobody,
        declined: Callable[[Ticket], None] = lambda ticket: None,
        attempts: int = 4,
    ) -> None:
        self._decider = decider
        self._wire = wire
        self._roster = roster
        self._record = record
        self._bill = bill
        self._declined = declined
        self._attempts = attempts
        self.repeats = 0
        self.declines = 0

    async def answer(
        self, asked: Asked, sampling: Sampling, placed: Callable[[Decision], None] = lambda decision: None
    ) -> Answering:
        """Bring a request to its first token; `placed` hears of its decision at once, in the same step as the call.

        A replica that declines has said what it has to do: with that it is decided again, and `placed` hears no more.
        Raises `TimedOut` at its deadline, `Overloaded` when attempts run out.
        """
        for left in reversed(range(DECISIONS)):
            decision = self._decider.decide(asked)
            ticket = self._decider.issue(decision, asked, self._record(decision), not left)
            if left == DECISIONS - 1:
                placed(decision)
            try:
                return await self._first(decision, ticket, asked, sampling)
            except ReplicaBusier as exc:
                self.declines += 1
                self._decider.declined(ticket, exc.load, asked.budget)
                self._declined(ticket)
        raise AssertionError("a firm ticket is not declined")

    async def _first(self, decision: Decision, ticket: Ticket, asked: Asked, sampling: Sampling) -> Answering:
        attempts: list[Attempt] = []
        deltas = self._deltas(ticket, asked.words, sampling, attempts)
        close = partial(self._close, ticket, deltas)
        stop = partial(self._stop, ticket, deltas, attempts)
        try:
            async with asyncio.timeout(max(0.0, asked.deadline_s - time.time())):
                return Answering(decision, await anext(deltas), deltas, close, stop)
        except TimeoutError as exc:
            await close()
            raise TimedOut("no replica produced a token before the request's deadline; try again later") from exc
        except BaseException:
            await close()
            raise

    async def _deltas(
        self, ticket: Ticket, words: bytes, sampling: Sampling, attempts: list[Attempt]
    ) -> AsyncGenerator[Delta, None]:
        """All tokens, from as many replicas as it takes: what one has generated is prompt to the next.

        A seed's draws begin anew there, so an answer that outlived its replica is a good one, not the very same.
        """
        first: Delta | None = None
        produced: list[int] = []
        engines_lost = 0
        for attempt in range(self._attempts):
            came = Attempt(ticket, len(words) // 4 + len(produced))
            attempts.append(came)
            left = replace(sampling, max_tokens=sampling.max_tokens - len(produced))
            async with aclosing(self._wire(ticket, words + _packed(produced), left)) as deltas:
                try:
                    while delta := await _next(deltas, wait_s=_STALL_S if first else None):
                        first, came.cached = first or delta, delta.cached_tokens
                        produced += delta.token_ids
                        came.output += len(delta.token_ids)
                        yield replace(first, token_ids=delta.token_ids, finish=delta.finish)
                        if delta.finish:
                            return
                    raise ReplicaUnwell("the answer ended without a finish")
                except (ReplicaGone, ReplicaUnwell) as exc:
                    if isinstance(exc, EngineLost):
                        engines_lost += 1
                    if engines_lost == _ENGINES_AT_MOST:
                        await self._bill(came, "interrupted")
                        raise Overloaded("two engines in turn died of this request; it is not tried again") from exc
                    ticket = await self._elsewhere(came, exc)
            await asyncio.sleep(_PAUSE_S * attempt)
        raise Overloaded(f"{self._attempts} replicas in turn failed this request; try again later")

    async def _elsewhere(self, attempt: Attempt, exc: Exception) -> Ticket:
        self.repeats += 1
        where = self._roster.whereabouts(attempt.ticket.id)
        log.warning("request %s failed on replica %s: %r; trying elsewhere", attempt.ticket.id, where, exc)
        if where is not None or attempt.output:
            await self._bill(attempt, "interrupted")
        if where is None:
            return self._decider.repeat(attempt.ticket, without="")
        if isinstance(exc, ReplicaGone):
            self._roster.bury(where)
        return self._decider.repeat(attempt.ticket, without=where)

    async def _stop(self, ticket: Ticket, deltas: AsyncGenerator[Delta, None], attempts: Sequence[Attempt]) -> None:
        await self._close(ticket, deltas)
        await self._bill(attempts[-1], "stop")

    async def _close(self, ticket: Ticket, deltas: AsyncGenerator[Delta, None]) -> None:
        self._decider.ended(ticket)
        await deltas.aclose()


async def _next(deltas: AsyncGenerator[Delta, None], wait_s: float | None) -> Delta | None:
    """The next delta, None at the end. The wait for the first is bounded by the request's own deadline."""
    try:
        async with asyncio.timeout(wait_s):
            return await anext(deltas, None)
    except TimeoutError as exc:
        if wait_s is None:
            raise
        raise ReplicaUnwell(f"no token in {wait_s} s") from exc


def _packed(token_ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(token_ids)}I", *token_ids)
