"""A router's part of one bucket: units leased ahead, so that most requests are let in without a round trip."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .accounts import Buckets, Rate
from .demand import Demand
from .errors import AccountsDown

_LEASED_AHEAD = 1 / 8  # of the burst, at most
_KNOWN_FOR_S = 0.1  # a bucket that was too low is not asked again before, for others may have given back
_SPARE = 1 / 32  # of the burst, at most, lies ready in all routers together for requests that come seldom
_SOON_S = 0.01  # when to come back, where the bucket may hold enough but was not asked
_TRIES = 3  # to lease: what was here when a lease was asked for may be used or given back before it comes
_GRAIN = 1e-6  # of a unit: what sums of fractions may be short of


class Allowance:
    """One router's, of one bucket. What was taken in all routers is never more than the bucket gave.

    While the accounts store is out of reach, a router spends what it has leased and then its share of the rate and the
    burst. What is missing from that share when the store answers again is then owed to the bucket, for it has filled
    meanwhile as the shares have: an outage lends a tenant a burst at most.
    """

    def __init__(
        self,
        bucket: str,
        rate: Rate,
        buckets: Buckets,
        routers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate  # may be set anew
        self._bucket = bucket
        self._buckets = buckets
        self._routers = routers
        self._clock = clock
        self._balance = 0.0  # below 0: owed
        self._wanted = 0.0  # by those who wait for a lease
        self._turn = asyncio.Lock()
        self._level = _Level(rate.burst, -math.inf)  # of the bucket, when this router last asked
        self._share: _Level | None = None  # of this router alone; None: the store answers
        self._demand = Demand(clock())
        self._most_spare = _SPARE * rate.burst / max(1, routers())
        self._at_first = 0.0  # what was here when the period began
        self._surplus = 0.0  # to give back; below 0: to pay

    def take(self, units: float) -> bool:
        """Use up units that are here; False if they are not."""
        if not self.has(units):
            return False
        self._balance -= units
        self._demand.use(units)
        return True

    def has(self, units: float) -> bool:
        """Whether so many can be taken at once."""
        return units <= self._balance + _GRAIN or units <= 0

    def put_back(self, units: float) -> None:
        """Return units that were taken and not used, or, negative, owe those used beyond."""
        self._balance += units

    async def draw(self, units: float) -> float:
        """Take units; 0, or the seconds until it may be tried again: infinite for more than the burst."""
        if self.take(units):
            return 0.0
        retry_s = await self.ready(units)
        if not retry_s:
            self.take(units)
        return retry_s

    async def ready(self, need: float, hoped: float = 0.0) -> float:
        """Lease so that `need` can be taken; 0, or the seconds as for `draw`.

        What is here already costs nothing, and all who wait share a round trip. What is `hoped` for beyond is leased
        along, or soon, where the bucket has it and it is little of the burst; nobody waits for it.
        """
        if need > self.rate.burst:
            return math.inf
        self._demand.hear(hoped if need < hoped <= self._most_spare else need)
        if self.has(need):
            return 0.0
        self._wanted += need
        try:
            async with self._turn:
                for _ in range(_TRIES):
                    if self.has(need) or self.is_known_to_lack(need):
                        break
                    await self._fill(need)
        finally:
            self._wanted -= need
        return self.wait_s(need)

    def is_known_to_lack(self, units: float) -> bool:
        """Whether the bucket had less, so lately that it is not asked again."""
        now = self._clock()
        return (
            now - self._level.as_of_s < _KNOWN_FOR_S and self._level.at(now, self.rate) < units - self._balance - _GRAIN
        )

    def wait_s(self, units: float) -> float:
        """Seconds until so many can be taken, as far as this router knows; infinite for more than the burst."""
        short = units - self._balance - _GRAIN
        if units > self.rate.burst:
            return math.inf
        if short <= 0:
            return 0.0
        if self._share is None:
            return max(_SOON_S, (short - self._level.at(self._clock(), self.rate)) / self.rate.per_s)
        rate = self._share_rate
        if short > rate.burst:
            return 1.0  # the store may be back
        return max(_SOON_S, (short - self._share.at(self._clock(), rate)) / rate.per_s)

    @property
    def left(self) -> float:
        """What the tenant can still take, as far as this router knows."""
        now, rate = self._clock(), self.rate
        there = self._share.at(now, self._share_rate) if self._share else self._level.at(now, rate)
        return min(rate.burst, max(0.0, there + self._balance))

    def take_stock(self) -> bool:
        """Note what was used; whether there is anything to put right."""
        now = self._clock()
        if self._demand.is_over(now):
            self._turn_over(now)
        return self._surplus != 0.0 or self._is_low

    async def put_right(self) -> None:
        """Give back what lies idle, or pay what is owed, or lease more before it is wanted."""
        surplus, self._surplus = min(self._surplus, self._balance), 0.0
        with suppress(AccountsDown):  # the bucket fills again without what was idle; what is owed stays owed
            if surplus > 0:
                self._balance -= surplus
                self._at_first -= surplus
                await self._pay(-surplus)
            elif surplus < 0 and self._balance < 0:
                await self._repay()
            elif self._is_low:
                async with self._turn:
                    if self._is_low:
                        await self._lease(self._goal)

    def _turn_over(self, now: float) -> None:
        """What was here all the while and not used is idle."""
        idle = min(self._balance, self._at_first - self._demand.used)
        self._demand.begin(now)
        self._most_spare = _SPARE * self.rate.burst / max(1, self._routers())
        idle -= self._demand.kept(now, self._most_spare)
        self._at_first = self._balance
        self._surplus = max(idle, 0.0) or min(self._balance, 0.0)
        if self._share is not None:  # leases are what an outage is lived on
            self._surplus = 0.0
            if self._share.at(now, self._share_rate) >= self._share_rate.burst:
                self._share = None  # nothing is owed, whether the store is back or not

    @property
    def _is_low(self) -> bool:
        """Whether more should be leased already; of a tenant that asked for nothing lately it never is."""
        if not self._demand.used or self._share is not None:
            return False
        low = self._demand.low(self._clock(), self._most_spare)
        return self._balance < low and not self.is_known_to_lack(self._goal)

    @property
    def _goal(self) -> float:
        return self._demand.goal(self._clock(), self._most_spare, _LEASED_AHEAD * self.rate.burst)

    async def _fill(self, need: float) -> None:
        try:
            await self._lease(need)
        except AccountsDown:
            self._draw_on_share(need - self._balance)

    async def _lease(self, need: float) -> None:
        rate = self.rate
        if need - self._balance > rate.burst:
            await self._repay()
        short = need - self._balance
        expected = self._demand.expected(self._clock()) + self._demand.spare(self._most_spare)
        ahead = min(self._wanted + expected, max(need, _LEASED_AHEAD * rate.burst))
        lease = await self._buckets.lease(self._bucket, rate, short, max(short, ahead - self._balance))
        self._balance += lease.units
        there = lease.left if lease.units else short - lease.retry_s * rate.per_s
        self._level = _Level(there, self._clock())
        if self._share is not None:
            owed = self._share_rate.burst - self._share.at(self._clock(), self._share_rate)
            await self._pay(owed)
            self._share = None

    @property
    def _share_rate(self) -> Rate:
        routers = max(1, self._routers())
        return Rate(self.rate.per_s / routers, max(1.0, self.rate.burst / routers))

    def _draw_on_share(self, short: float) -> None:
        now, rate = self._clock(), self._share_rate
        if self._share is None:
            self._share = _Level(rate.burst, now)
        there = self._share.at(now, rate)
        if 0 < short <= there + _GRAIN:
            self._share = _Level(there - short, now)
            self._balance += short

    async def _repay(self) -> None:
        owed, self._balance = -self._balance, 0.0
        try:
            await self._pay(owed)
        except BaseException:
            self._balance -= owed
            raise

    async def _pay(self, units: float) -> None:
        await self._buckets.give_back(self._bucket, self.rate, -units)
        self._level.units -= units


@dataclass(slots=True)
class _Level:
    """What a bucket held at a time; it fills from then on."""

    units: float
    as_of_s: float

    def at(self, now_s: float, rate: Rate) -> float:
        return min(rate.burst, self.units + (now_s - self.as_of_s) * rate.per_s)
