"""A router's own tickets, until the replicas' pages account for them: as load, and as blocks to come."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import msgspec

from .ids import HolderId
from .prefix import Prefix
from .promises import Promises
from .wire import Load


@dataclass(frozen=True, slots=True)
class _Ticket:
    prefill_tokens: int
    decode_blocks: int


class Overlay:
    """Numbers tickets and adds to what pages say what they cannot know of yet. For one event loop."""

    def __init__(self, router: str, clock: Callable[[], float]) -> None:
        self._router = router
        self._promises = Promises(clock)
        self._numbers = count(1)
        self._tickets: dict[HolderId, dict[int, _Ticket]] = {}
        self._holder_of: dict[int, HolderId] = {}

    def issue(self, holder: HolderId, prefill_tokens: int, decode_blocks: int, prefix: Prefix) -> int:
        """Note a ticket for a prompt; return its number, each higher than the last."""
        number = next(self._numbers)
        self._tickets.setdefault(holder, {})[number] = _Ticket(prefill_tokens, decode_blocks)
        self._holder_of[number] = holder
        self._promises.make(number, holder, prefix)
        return number

    def settle(self, number: int) -> None:
        """A ticket has ended; what it left counts for one lag more. Settling twice is fine."""
        holder = self._holder_of.pop(number, None)
        if holder is None:
            return
        tickets = self._tickets[holder]
        del tickets[number]
        if not tickets:
            del self._tickets[holder]
        self._promises.end(number)

    def withdraw(self, number: int) -> None:
        """A ticket leaves no blocks where it was sent: it failed there, or was served elsewhere. Twice is fine."""
        self._promises.withdraw(number)

    def load(self, holder: HolderId, published: Load) -> Load:
        """The published load, and on top the tickets numbered above the last that it counts."""
        tickets = self._tickets.get(holder)
        if tickets is None:
            return published
        counted = published.counted.get(self._router, 0)
        pending = [ticket for number, ticket in tickets.items() if number > counted]
        return msgspec.structs.replace(
            published,
            waiting_prefill_tokens=published.waiting_prefill_tokens + sum(ticket.prefill_tokens for ticket in pending),
            decode_blocks=published.decode_blocks + sum(ticket.decode_blocks for ticket in pending),
        )

    def ongoing(self, holder: HolderId) -> int:
        """Tickets on a holder that have not ended."""
        return len(self._tickets.get(holder, {}))

    def extents(self, prefix: Prefix) -> dict[HolderId, int]:
        """How many leading blocks of a new prompt each holder will have got from tickets under way (`promises.py`)."""
        return self._promises.extents(prefix)
