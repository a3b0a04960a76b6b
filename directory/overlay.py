"""A router's own tickets, until the replica's published load accounts for them."""

from dataclasses import dataclass
from itertools import count

import msgspec

from .ids import HolderId
from .wire import Load


@dataclass(frozen=True, slots=True)
class _Ticket:
    prefill_tokens: int
    decode_blocks: int


class Overlay:
    """Numbers tickets and adds to a published load those it cannot know of yet. For one event loop."""

    def __init__(self, router: str) -> None:
        self._router = router
        self._numbers = count(1)
        self._tickets: dict[HolderId, dict[int, _Ticket]] = {}
        self._holder_of: dict[int, HolderId] = {}

    def issue(self, holder: HolderId, prefill_tokens: int, decode_blocks: int) -> int:
        """Note a ticket; return its number, each higher than the last."""
        number = next(self._numbers)
        self._tickets.setdefault(holder, {})[number] = _Ticket(prefill_tokens, decode_blocks)
        self._holder_of[number] = holder
        return number

    def settle(self, number: int) -> None:
        """A ticket has ended; settling twice is fine."""
        holder = self._holder_of.pop(number, None)
        if holder is None:
            return
        tickets = self._tickets[holder]
        del tickets[number]
        if not tickets:
            del self._tickets[holder]

    def load(self, holder: HolderId, published: Load) -> Load:
        """The published load, and on top the tickets numbered above the last that it counts."""
        counted = published.counted.get(self._router, 0)
        pending = [ticket for number, ticket in self._tickets.get(holder, {}).items() if number > counted]
        if not pending:
            return published
        return msgspec.structs.replace(
            published,
            waiting_prefill_tokens=published.waiting_prefill_tokens + sum(ticket.prefill_tokens for ticket in pending),
            decode_blocks=published.decode_blocks + sum(ticket.decode_blocks for ticket in pending),
        )

    def ongoing(self, holder: HolderId) -> int:
        """Tickets on a holder that have not ended."""
        return len(self._tickets.get(holder, {}))
