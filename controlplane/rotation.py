"""Takes all replicas to the name epoch that accounts say is present, and ends the one before once all are there."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from ..directory.epochs import NameEpochs
from .accounts.contract import Naming
from .errors import AccountsDown

log = logging.getLogger(__name__)

_STEP_S = 0.5
_TELL_S = 10.0  # who started under an epoch that has ended since, in the middle of a rotation, hears of it so
_ROUTERS_S = 30.0  # a router that does not answer for so long loses hits, and holds nobody up
_SETTLE_S = 10.0  # by then every mirror has read the last page that went over


class Processes(Protocol):
    """All replicas and all routers. None: nobody answers; None for one: that one does not."""

    async def look_ups(self) -> Sequence[NameEpochs | None] | None:
        """The epochs that each router looks up in."""
        ...

    async def rename(self, epoch: int) -> Sequence[int | None] | None:
        """Have each replica go over to an epoch; the one that its page is in."""
        ...


class Rotation:
    """The registrar's part. All it knows is in the accounts, so one that starts in mid-rotation goes on with it.

    First all routers look up in both epochs, then replicas go over, each when it is ready; then, after a while for
    mirrors to follow, the epoch before ends. So no router ever looks where a page is not.
    """

    def __init__(self, accounts: Naming, processes: Processes, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._processes = processes
        self._clock = clock
        self._down = False
        self._begun_at: float | None = None  # since when the rotation was seen to last
        self._over_at: float | None = None  # since when all replicas have been in the present epoch
        self._told_at = float("-inf")
        self.epochs = NameEpochs()

    async def run(self) -> None:
        """Without end."""
        while True:
            try:
                await self.step()
            except Exception:  # the shards live in this process
                log.exception("a step failed and is tried again")
            await asyncio.sleep(_STEP_S)

    async def step(self) -> None:
        """Look how far things are, and do what comes next. While accounts are down, nothing begins and nothing ends."""
        try:
            await self._look()
            if self.epochs.ending is not None:
                await self._rotate()
            elif self._clock() - self._told_at >= _TELL_S:
                await self._tell()
        except AccountsDown as exc:
            if not self._down:
                log.warning("name epochs stay as they are: %s", exc)
            self._down = True
        else:
            self._down = False

    async def _look(self) -> None:
        epochs = await self._accounts.epochs()
        if epochs != self.epochs:
            self._begun_at = self._over_at = None
        self.epochs = epochs

    async def _rotate(self) -> None:
        now, present = self._clock(), self.epochs.present
        if self._begun_at is None:
            self._begun_at = now
            log.info("name epoch %d begins", present)
        if not await self._is_looked_up() and now - self._begun_at < _ROUTERS_S:
            return
        if not await self._tell():
            self._over_at = None
        elif self._over_at is None:
            self._over_at = now
        elif now - self._over_at >= _SETTLE_S:
            await self._accounts.end_epoch(present)
            log.info("name epoch %d is all there is", present)

    async def _is_looked_up(self) -> bool:
        """Whether every router looks up in both epochs."""
        look_ups = await self._processes.look_ups()
        return look_ups is not None and all(each == self.epochs for each in look_ups)

    async def _tell(self) -> bool:
        """Tell replicas the present epoch; True if every page is in it."""
        self._told_at = self._clock()
        found = await self._processes.rename(self.epochs.present)
        return found is not None and all(each == self.epochs.present for each in found)
