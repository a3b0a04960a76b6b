"""How many requests of a tenant may run at the same time: places, claimed across routers."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

from .accounts import Buckets
from .errors import AccountsDown

_TTL_S = 10.0  # what a router held is free again so long after its end
_RENEWED_S = _TTL_S / 3
_SPARE = 64  # one place in so many is held ready, so that most requests need no round trip
_MOST_SPARE = 8


class Places:
    """One router's, of one tenant. It holds what it uses and a few; small limits it holds exactly.

    While the accounts store is out of reach, a router has its share of the limit, and one place at least.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        router: str,
        buckets: Buckets,
        routers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit  # may be set anew
        self._name = name
        self._router = router
        self._buckets = buckets
        self._routers = routers
        self._clock = clock
        self._held = 0
        self._taken = 0
        self._peak = 0  # of those taken, since it was last tidied
        self._renewed_at = -math.inf
        self._turn = asyncio.Lock()

    async def take(self) -> bool:
        """Take a place; False if all are taken. Without a round trip where this router holds a free one."""
        if self._taken >= self._held:
            async with self._turn:
                if self._taken >= self._held:
                    await self._claim_more()
        if self._taken >= self._held:
            return False
        self._taken += 1
        self._peak = max(self._peak, self._taken)
        return True

    async def leave(self) -> None:
        """Free a place; who waits for it in another router can have it at once."""
        self._taken -= 1
        if self._idle > 2 * self._spare:
            async with self._turn:
                if self._idle > 2 * self._spare:
                    with suppress(AccountsDown):  # a claim ends by itself
                        await self._claim(self._taken + self._spare)

    async def tidy(self) -> None:
        """Renew the claim in time, and give up what was not used since the last call."""
        peak, self._peak = max(self._peak, self._taken), self._taken
        due = self._held > 0 and self._clock() - self._renewed_at >= _RENEWED_S
        if self._held > peak or due:
            async with self._turn:
                with suppress(AccountsDown):
                    await self._claim(max(peak, self._taken))

    @property
    def _spare(self) -> int:
        return min(_MOST_SPARE, self.limit // _SPARE)

    @property
    def _idle(self) -> int:
        return self._held - self._taken

    async def _claim_more(self) -> None:
        try:
            await self._claim(self._taken + 1 + self._spare)
        except AccountsDown:
            self._held = max(self._held, 1, self.limit // max(1, self._routers()))

    async def _claim(self, wanted: int) -> None:
        self._held = min(self._held, wanted)  # what is given up is not taken meanwhile
        self._held = await self._buckets.claim(self._name, self._router, wanted, self.limit, _TTL_S)
        self._renewed_at = self._clock()
