"""A router's own tickets, until the replicas' pages account for them: as load, and as blocks to come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import msgspec

from .ids import HolderId
from .prefix import Prefix
from .promises import Promises
from .wire import Load


@dataclass(frozen=True, slots=True)
class _Ticket:
    prefill_tokens: int
    decode_blocks: int


class Pending(NamedTuple):
    """Tickets that no load counts yet, and what they come to."""

    prefill_tokens: int
    decode_blocks: int
    tickets: int


NOTHING_PENDING = Pending(0, 0, 0)


class Overlay:
    """Numbers tickets and adds to what pages say what they cannot know of yet. For one event loop."""

    def __init__(self, router: str, clock: Callable[[], float]) -> None:
        self._router = router
        self._promises = Promises(clock)
        self._numbers = count(1)
        self._tickets: dict[HolderId, dict[int, _Ticket]] = {}
        self._holder_of: dict[int, HolderId] = {}
        self._watches: list[set[HolderId]] = []

    def watch(self) -> set[HolderId]:
        """A set that gets every holder whose tickets change from here on; who asked for it empties it."""
        self._watches.append(set())
        return self._watches[-1]

    def issue(self, holder: HolderId, prefill_tokens: int, decode_blocks: int, prefix: Prefix) -> int:
        """Note a ticket for a prompt; return its number, each higher than the last."""
        number = next(self._numbers)
        self._tickets.setdefault(holder, {})[number] = _Ticket(prefill_tokens, decode_blocks)
        self._holder_of[number] = holder
        self._changed(holder)
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
        self._changed(holder)
        self._promises.end(number)

    def withdraw(self, number: int) -> None:
        """A ticket leaves no blocks where it was sent: it failed there, or was served elsewhere. Twice is fine."""
        self._promises.withdraw(number)

    def load(self, holder: HolderId, published: Load) -> Load:
        """The published load, and on top the tickets numbered above the last that it counts."""
        pending = self.pending(holder, published.counted)
        if not pending.tickets:
            return published
        return msgspec.structs.replace(
            published,
            waiting_prefill_tokens=published.waiting_prefill_tokens + pending.prefill_tokens,
            decode_blocks=published.decode_blocks + pending.decode_blocks,
            waiting_sequences=published.waiting_sequences + pending.tickets,
        )

    def pending(self, holder: HolderId, counted: Mapping[str, int]) -> Pending:
        """What a holder's tickets come to, those left out that its load counts already."""
        tickets = self._tickets.get(holder)
        if tickets is None:
            return NOTHING_PENDING
        last = counted.get(self._router, 0)
        prefill_tokens = decode_blocks = pending = 0
        for number, ticket in tickets.items():
            if number > last:
                prefill_tokens += ticket.prefill_tokens
                decode_blocks += ticket.decode_blocks
                pending += 1
        return Pending(prefill_tokens, decode_blocks, pending)

    def ongoing(self, holder: HolderId) -> int:
        """Tickets on a holder that have not ended."""
        return len(self._tickets.get(holder, {}))

    def extents(self, prefix: Prefix) -> dict[HolderId, int]:
        """How many leading blocks of a new prompt each holder will have got from tickets under way (`promises.py`)."""
        return self._promises.extents(prefix)

    def _changed(self, holder: HolderId) -> None:
        for watch in self._watches:
            watch.add(holder)
