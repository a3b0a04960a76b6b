"""Lets requests in as their tenants' rules allow: how many, how long, and what they may write into caches."""

import asyncio
from collections.abc import Callable

from ..directory.wire import Served
from .accounts import Buckets, Caller
from .breaker import Breaker
from .limits import Admission, RequestLimits
from .write_limit import Budget, WriteLimit

_TIDY_S = 0.1


class Gate:
    """One per router; `run` gives back to the accounts what lies idle here."""

    def __init__(self, buckets: Buckets, router: str, routers: Callable[[], int], block_tokens: int) -> None:
        self._breaker = Breaker(buckets)
        self._requests = RequestLimits(self._breaker, router, routers)
        self._writes = WriteLimit(self._breaker, block_tokens, routers)

    async def admit(self, caller: Caller, prompt_tokens: int, max_tokens: int) -> Admission:
        """Let in a request; what it may write is leased along with the rest, so that it waits once.

        Raises `LimitReached`, and `BadRequest` for one too long.
        """
        tokens = prompt_tokens + max_tokens
        writes_ready = self._writes.is_ready(caller, prompt_tokens, max_tokens)
        if writes_ready and (admission := self._requests.admit_at_once(caller, tokens)) is not None:
            return admission
        if not self._breaker.is_open:
            async with asyncio.TaskGroup() as trips:
                trips.create_task(self._requests.lease(caller, tokens))
                if not writes_ready:
                    trips.create_task(self._writes.budget(caller, prompt_tokens, max_tokens))
        return await self._requests.admit(caller, tokens)

    async def budget(self, caller: Caller, prompt_tokens: int, max_tokens: int) -> Budget | None:
        """What a request may write; None for a tenant that may write what it likes."""
        rules = caller.tenant.rules
        if rules.write_blocks_per_minute is None and rules.resident_share is None:
            return None
        return await self._writes.budget(caller, prompt_tokens, max_tokens)

    def headers(self, caller: Caller) -> dict[str, str]:
        """What is left of a tenant's limits, for answers and refusals."""
        return self._requests.headers(caller)

    def settle(self, served: Served) -> None:
        """Charge what a request has written in place of what was expected."""
        self._writes.settle(served)

    async def run(self) -> None:
        """Without end."""
        while True:
            await asyncio.sleep(_TIDY_S)
            await self._requests.tidy()
            await self._writes.tidy()
