"""A circuit breaker before the accounts store: no request waits long for a store that hangs, or twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from .accounts import Buckets, Lease, Rate
from .errors import AccountsDown

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Breaker:
    """Buckets that answer within `patience_s` or raise `AccountsDown`; then they raise at once, but for a try a pause.

    One per router, so that the limits of all tenants learn from the first who waited.
    """

    def __init__(
        self,
        buckets: Buckets,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = 0.05,
        pause_s: float = 1.0,
    ) -> None:
        self._buckets = buckets
        self._clock = clock
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._next_try_at: float | None = None  # None: it answers

    @property
    def is_open(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return self._next_try_at is not None

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        return await self._ask(self._buckets.lease, bucket, rate, need, want)

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        await self._ask(self._buckets.give_back, bucket, rate, units)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        return await self._ask(self._buckets.claim, name, router, wanted, limit, ttl_s)

    async def _ask(self, verb: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        now = self._clock()
        if self._next_try_at is not None:
            if now < self._next_try_at:
                raise AccountsDown(f"the accounts store did not answer; it is tried again every {self._pause_s} s")
            self._next_try_at = now + self._pause_s  # whoever comes meanwhile does not wait for this try
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await verb(*args, **kwargs)
        except AccountsDown:
            self._next_try_at = self._clock() + self._pause_s
            raise
        except TimeoutError as exc:
            self._next_try_at = self._clock() + self._pause_s
            raise AccountsDown(f"the accounts store did not answer within {self._patience_s} s") from exc
        self._next_try_at = None
        return answer
