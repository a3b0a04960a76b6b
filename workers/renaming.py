"""Takes a replica's page to the name epoch that it is told of."""

import asyncio
from collections.abc import Awaitable, Callable

from ..directory import Closure
from .pace import Pace

_GAPS_A_BLOCK = 0.05  # to read a name takes a router a hundredth of a batch; here it is a fifth of all it does


class Renaming:
    """One per replica. `closure_of` gives an empty one; `go_over` has it take over, and returns once the page tells.

    `pause` comes before: all replicas are told at once, and routers read the page of each anew.
    """

    def __init__(
        self,
        closure_of: Callable[[int], Closure],
        go_over: Callable[[Closure], Awaitable[None]],
        epoch: int,
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._closure_of = closure_of
        self._go_over = go_over
        self._pause = pause
        self._aim = epoch
        self._told = asyncio.Event()
        self.epoch = epoch  # that the page is in

    def aim(self, epoch: int) -> int:
        """Have the page go over to an epoch, soon; gives the one it is in. Being told again is fine."""
        self._aim = epoch
        self._told.set()
        return self.epoch

    async def run(self) -> None:
        """Go wherever it is told to, without end."""
        while True:
            await self._told.wait()
            self._told.clear()
            if self._aim != self.epoch:
                await self._pause()
            if (aim := self._aim) != self.epoch:
                await self._go_over(self._closure_of(aim))
                self.epoch = aim


def spread_s(pace: Pace, blocks: int) -> float:
    """The time over which a fleet whose replicas hold so many blocks writes its pages anew."""
    return pace.gap_s * blocks * _GAPS_A_BLOCK
