"""The only queue: requests wait here for room at the replicas, and tenants take turns by the prompt tokens they cost.

Deficit round robin with surplus: what a request costs is known once it is placed, so whoever has credit is served, may
end below zero, and sits out as many rounds as its quanta take to pay for that. (Shreedhar and Varghese, SIGCOMM 1995.)
A tenant that begins to wait goes before all that did already, once, as in RFC 8290: it is of the rounds until it has
come round with nothing to ask and nothing to pay.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

from .errors import LimitReached, Overloaded, TimedOut

QUANTUM_TOKENS = 256  # a fraction of most requests: turns alternate as often as costs allow
POLL_S = 0.02  # while somebody waits: room also comes from what other routers' requests leave

_LEAST_TOKENS = 32  # of a turn, however much is cached: it takes a slot as well
_NEWEST = 0.125  # the last request's part in what a tenant's next one is expected to cost
_REMEMBERED = 4096  # tenants that do not wait; forgotten is only what they are expected to cost
_RETRY_S = 1


@dataclass(slots=True, eq=False)
class _Tenant:
    name: str
    weight: float
    expected_tokens: float  # of its next request
    credit_tokens: float = 0.0  # below zero: a debt
    queues: bool = False  # among those who take turns
    waiting: "OrderedDict[Turn, None]" = field(default_factory=OrderedDict)


class Places(Protocol):
    """Says whether there is room; asked often. See `Room`."""

    def take(self) -> bool:
        """Take room for one request, if there is any."""
        ...

    def placed(self) -> None:
        """A request that took room counts by itself from here on, or needs none."""
        ...


class FairQueue:
    """For one event loop.

    With nobody waiting nothing is charged: who uses what none else wants owes nothing for it.
    """

    def __init__(
        self,
        places: Places,
        clock: Callable[[], float] = time.time,
        max_waiting: int = 1000,
        quantum_tokens: int = QUANTUM_TOKENS,
    ) -> None:
        self.places = places
        self._clock = clock
        self._max_waiting = max_waiting
        self._quantum_tokens = quantum_tokens
        self._tenants: dict[str, _Tenant] = {}
        self._new: deque[_Tenant] = deque()  # served before `_rounds`
        self._rounds: deque[_Tenant] = deque()  # the first has the turn
        self._poll: asyncio.TimerHandle | None = None
        self.active = 0  # turns that have begun and not ended
        self.waiting = 0

    def turn(self, tenant: str, weight: float, deadline_s: float) -> "Turn":
        """A turn to be entered by `async with`. The deadline is of the queue's clock: Unix time."""
        known = self._tenants.get(tenant)
        if known is None:
            known = self._remember(tenant, weight)
        known.weight = weight
        return Turn(self, known, deadline_s)

    async def enter(self, turn: "Turn") -> None:
        """Begin a turn, at once where there is room and nobody waits for it."""
        if self.waiting or not self.places.take():
            await self._wait(turn)
        else:
            self.active += 1

    def leave(self, turn: "Turn") -> None:
        """End a turn that has begun; one that was never charged cost nothing."""
        self.active -= 1
        turn.settle(0.0)
        self._serve()

    def _remember(self, name: str, weight: float) -> _Tenant:
        if len(self._tenants) >= _REMEMBERED:
            self._tenants = {other: tenant for other, tenant in self._tenants.items() if tenant.queues}
        tenant = self._tenants[name] = _Tenant(name, weight, self._quantum_tokens)
        return tenant

    async def _wait(self, turn: "Turn") -> None:
        self._join(turn)
        self._serve()
        self._keep_polling()
        try:
            async with asyncio.timeout(max(0.0, turn.deadline_s - self._clock())):
                await turn.granted
        except BaseException as exc:  # it may have been granted in the same step of the loop
            if turn in turn.tenant.waiting:
                self._withdraw(turn)
            else:
                self.leave(turn)
            if isinstance(exc, TimeoutError):
                raise TimedOut("no replica had room before the request's deadline; try again later") from exc
            raise

    def _join(self, turn: "Turn") -> None:
        """Take a place in the queue. A tenant gets as many as it leaves free, so that there is one for the next."""
        tenant, left = turn.tenant, self._max_waiting - self.waiting
        if left <= 0:
            raise Overloaded(f"{self.waiting} requests wait for a replica, and no more may; try again later")
        if len(tenant.waiting) >= left:
            why = f"{len(tenant.waiting)} requests of {tenant.name} wait for a replica, its part of the queue"
            raise LimitReached(f"{why}; send fewer at once, or try again later", "queue_full", _RETRY_S)
        turn.granted = asyncio.get_running_loop().create_future()
        tenant.waiting[turn] = None
        self.waiting += 1
        if not tenant.queues:
            tenant.queues, tenant.credit_tokens = True, self._quantum(tenant)
            self._new.append(tenant)

    def _withdraw(self, turn: "Turn") -> None:
        del turn.tenant.waiting[turn]
        self.waiting -= 1
        if not self.waiting:
            self._rest()

    def _serve(self) -> None:
        while self.waiting and self.places.take():
            turn = self._next()
            self.active += 1
            self.waiting -= 1
            if not turn.granted.done():  # one that is being cancelled leaves by itself, with its place
                turn.granted.set_result(None)
            if not self.waiting:
                self._rest()

    def _next(self) -> "Turn":
        """Whose turn it is. Takes as many steps as tenants are passed over, at most three rounds."""
        passed = 0
        while True:
            tenants = self._new or self._rounds
            tenant = tenants[0]
            if tenant.waiting and tenant.credit_tokens > 0:
                turn, _ = tenant.waiting.popitem(last=False)
                turn.debit()
                return turn
            self._pass_over(tenants)
            passed += 1
            if passed > len(self._rounds):
                self._pay_debts()
                passed = 0

    def _pass_over(self, tenants: deque[_Tenant]) -> None:
        """End the first one's turn: it gets the quantum of its next, and keeps no credit but that."""
        tenant = tenants.popleft()
        if not tenant.waiting and tenant.credit_tokens >= 0 and tenants is self._rounds:
            tenant.queues = False
            return
        tenant.credit_tokens = min(tenant.credit_tokens, 0.0) + self._quantum(tenant)
        self._rounds.append(tenant)

    def _pay_debts(self) -> None:
        """Give all the quanta of those rounds at once that would pass with nobody served."""
        rounds = min(-tenant.credit_tokens // self._quantum(tenant) for tenant in self._rounds if tenant.waiting)
        for tenant in self._rounds:
            tenant.credit_tokens += max(0.0, rounds) * self._quantum(tenant)

    def _rest(self) -> None:
        """Nobody waits, so nobody is owed anything."""
        for tenant in (*self._new, *self._rounds):
            tenant.queues = False
        self._new.clear()
        self._rounds.clear()

    def _quantum(self, tenant: _Tenant) -> float:
        return self._quantum_tokens * tenant.weight

    def _keep_polling(self) -> None:
        if self._poll is None and self.waiting:
            self._poll = asyncio.get_running_loop().call_later(POLL_S, self._polled)

    def _polled(self) -> None:
        self._poll = None
        try:
            self._serve()
        finally:
            self._keep_polling()


class Turn:
    """One request's: it holds one of the places there are, from entering to leaving."""

    __slots__ = ("_debited_tokens", "_queue", "_settled", "deadline_s", "granted", "tenant")

    granted: asyncio.Future[None]  # of one that had to wait

    def __init__(self, queue: FairQueue, tenant: _Tenant, deadline_s: float) -> None:
        self._queue = queue
        self._debited_tokens: float | None = None  # None: nobody waited, so nothing is charged
        self._settled = False
        self.tenant = tenant
        self.deadline_s = deadline_s

    async def __aenter__(self) -> Self:
        """Wait for room and for one's turn. Raises `TimedOut`, `Overloaded`, `LimitReached`."""
        await self._queue.enter(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._queue.leave(self)

    def charge(self, uncached_tokens: int) -> None:
        """Say, once, what the request costs: the prompt tokens that its replica has to compute."""
        tokens = max(uncached_tokens, _LEAST_TOKENS)
        self.tenant.expected_tokens += _NEWEST * (tokens - self.tenant.expected_tokens)
        self.settle(tokens)

    def debit(self) -> None:
        """Take what such a request is expected to cost."""
        self._debited_tokens = self.tenant.expected_tokens
        self.tenant.credit_tokens -= self._debited_tokens

    def settle(self, tokens: float) -> None:
        """Put the true cost in place of the expected one, the first time that it is told."""
        if self._settled:
            return
        self._settled = True
        self._queue.places.placed()
        if self._debited_tokens is not None and self.tenant.queues:
            self.tenant.credit_tokens += self._debited_tokens - tokens
