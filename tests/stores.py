"""An accounts store in memory, by a clock that a test sets, which it can take away."""

import asyncio
from dataclasses import dataclass

from kvplane.controlplane.accounts import Lease, Rate
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.errors import AccountsDown


@dataclass
class Clock:
    """Stands still until it is set."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Store:
    """Buckets that count what they are asked. `is_down` refuses; `hangs` never answers; `held` is let go by a test."""

    def __init__(self, clock: Clock) -> None:
        self._accounts = MemoryAccounts(clock)
        self.is_down = False
        self.hangs = False
        self.held: asyncio.Event | None = None
        self.asked = 0
        self.leases: list[tuple[float, float]] = []  # of all that were asked for: need and want
        self.returned: list[float] = []

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        self.leases.append((need, want))
        await self._reach()
        return await self._accounts.lease(bucket, rate, need, want)

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        await self._reach()
        self.returned.append(units)
        await self._accounts.give_back(bucket, rate, units)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        await self._reach()
        return await self._accounts.claim(name, router, wanted, limit, ttl_s)

    async def _reach(self) -> None:
        self.asked += 1
        if self.is_down:
            raise AccountsDown("taken away")
        if self.hangs:
            await asyncio.Event().wait()
        if self.held is not None:
            await self.held.wait()
