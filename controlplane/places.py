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
_TRUSTED_S = _TTL_S * 2 / 3  # a claim that was not renewed for so long may end before it is
_PEAK_S = 1.0  # for so long what was used is held, where a few are held ready
_SPARE = 1 / 32  # of the limit, at most, is held ready in all routers together, so that most need no round trip
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
        self._peak, self._peak_since = 0, -math.inf  # of those taken
        self._wanted = 0
        self._refused = False  # some of the last that were claimed beyond those held
        self._renewed_at = -math.inf
        self._turn = asyncio.Lock()

    async def take(self) -> bool:
        """Take a place; False if all are taken. Without a round trip where this router holds a free one."""
        if not self.has_one:
            await self.ready()
        if self._taken >= self._held:
            return False
        self.take_one()
        return True

    def take_one(self) -> None:
        """Take a place that is here."""
        self._taken += 1
        if self._taken > self._peak:
            self._peak = self._taken

    @property
    def has_one(self) -> bool:
        """Whether a place is here."""
        return self._taken < self._held and self._clock() < self._renewed_at + _TRUSTED_S

    async def ready(self) -> None:
        """Claim a place, and a few for those who come next; all who wait share a round trip."""
        async with self._turn:
            if not self.has_one:
                await self._claim_more()

    async def leave(self) -> None:
        """Free a place; who waits for it in another router can have it at once."""
        self._taken -= 1
        if self._is_wanted_elsewhere:
            async with self._turn:
                if self._is_wanted_elsewhere:
                    with suppress(AccountsDown):  # a claim ends by itself
                        await self._claim(self._taken + self._spare)

    def take_stock(self) -> bool:
        """Note how many were used; whether some are given up, more are claimed ahead, or the claim is renewed.

        A claim of which nothing is used ends by itself.
        """
        now, spare, peak = self._clock(), self._spare, self._peak
        used = peak > 0
        self._wanted = max(peak, self._taken) + spare
        too_many = False
        if not spare or now - self._peak_since >= _PEAK_S:
            too_many = self._held > peak + 2 * spare
            self._peak, self._peak_since = self._taken, now
        too_few = used and not self._refused and 2 * self._idle < spare
        return too_many or too_few or (used and now - self._renewed_at >= _RENEWED_S)

    async def put_right(self) -> None:
        """Claim what is used, and a few for those who come next."""
        async with self._turn:
            with suppress(AccountsDown):
                await self._claim(max(self._wanted, self._taken))

    @property
    def _spare(self) -> int:
        return min(_MOST_SPARE, int(self.limit * _SPARE / max(1, self._routers())))

    @property
    def _is_wanted_elsewhere(self) -> bool:
        """Whether what is free here is more than is held ready, of a limit that is small or was reached."""
        spare = self._spare
        return self._idle > 2 * spare and (not spare or self._refused)

    @property
    def _idle(self) -> int:
        return self._held - self._taken

    async def _claim_more(self) -> None:
        try:
            await self._claim(self._taken + max(1, self._spare))
        except AccountsDown:
            self._held = max(self._held, 1, self.limit // max(1, self._routers()))

    async def _claim(self, wanted: int) -> None:
        more, now = wanted > self._held, self._clock()
        self._held = min(self._held, wanted)  # what is given up is not taken meanwhile
        self._held = await self._buckets.claim(self._name, self._router, wanted, self.limit, _TTL_S)
        self._renewed_at = now
        self._refused = self._held < wanted if more else self._refused
