"""Keeps a router's look-ups in the name epochs that accounts say."""

import asyncio
import logging

from ..directory.epochs import EpochHoldings
from .accounts.contract import Naming
from .errors import AccountsDown

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_PATIENCE_S = 2.0  # a store that hangs is asked again


class EpochReader:
    """While the store is down, look-ups go on in the epochs that were read last."""

    def __init__(self, accounts: Naming, holdings: EpochHoldings) -> None:
        self._accounts = accounts
        self._holdings = holdings
        self._down = False

    async def run(self) -> None:
        """Look for changes without end."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Take in what changed since the last time."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self._holdings.epochs = await self._accounts.epochs()
        except (AccountsDown, TimeoutError) as exc:
            if not self._down:
                log.warning("name epochs stay as they were last read: %s", exc)
            self._down = True
        else:
            self._down = False
