"""A router's copy of tenants, keys and public prefixes, read anew whenever they change."""

import asyncio
import logging

from ...directory import Domain
from ..errors import AccountsDown, Overloaded
from .contract import Registry
from .tenant import NO_BOOK, Book, Caller

log = logging.getLogger(__name__)

_LOOK_S = 0.5  # how long a revoked key may still be let in
_RETRY_S = 0.2
_PATIENCE_S = 2.0  # a store that hangs is asked again


class BookReader:
    """Keeps what it last read while the store is down: nobody who may ask is turned away for that."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._down = False
        self.book: Book = NO_BOOK

    @property
    def is_read(self) -> bool:
        return self.book is not NO_BOOK

    def domains(self) -> frozenset[Domain]:
        """Every domain that some key is bound to."""
        return self.book.domains

    def caller(self, key: str) -> Caller | None:
        """Who a key speaks for; None for a key that is nobody's. Raises `Overloaded` until tenants were read once."""
        if self.book is NO_BOOK:
            raise Overloaded("API keys have not been read yet: the accounts store does not answer; try again later")
        return self.book.caller(key)

    async def run(self) -> None:
        """Look for changes without end."""
        while True:
            await asyncio.sleep(_LOOK_S if await self.look() else _RETRY_S)

    async def look(self) -> bool:
        """Take in what changed since the last time; False while the store does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if await self._registry.revision() != self.book.revision:
                    self.book = await self._registry.read()
        except (AccountsDown, TimeoutError) as exc:
            if not self._down:
                log.warning("tenants and keys stay as they were last read: %s", exc)
            self._down = True
            return False
        self._down = False
        return True
