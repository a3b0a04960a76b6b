"""What each request used, written once where it is billed from; the contract, and the simplest keeper of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal, Protocol, Self

import msgspec

from .ticket import Ticket

Ending = Literal["stop", "length", "cancelled", "failed", "interrupted"]


class LedgerDown(Exception):
    """The ledger does not answer; what was to be written is kept."""


class Usage(msgspec.Struct, array_like=True, frozen=True):
    """One attempt at a request, in tokens: of the prompt `cached` were reused, `written` stored, the rest is neither.

    An attempt that its replica did not live to account for is `interrupted`, by what had come of it.
    """

    decision: str
    attempt: int
    tenant: str  # organisation/workspace
    model: str
    prompt_tokens: int
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    finish: Ending
    at_s: float  # Unix time of the decision

    def __post_init__(self) -> None:
        if min(self.cached_tokens, self.written_tokens, self.uncached_tokens, self.output_tokens, self.attempt) < 0:
            raise ValueError(f"cached, written and uncached tokens make up the prompt, none below 0; got {self}")

    @property
    def uncached_tokens(self) -> int:
        """Prompt tokens that were computed and not stored."""
        return self.prompt_tokens - self.cached_tokens - self.written_tokens

    @property
    def day(self) -> str:
        """The day it is filed under, UTC."""
        return datetime.fromtimestamp(self.at_s, UTC).strftime("%Y-%m-%d")

    @classmethod
    def of(
        cls, ticket: Ticket, model: str, block_tokens: int, prompt: int, cached: int, output: int, finish: Ending
    ) -> Self:
        """What an attempt came to: whole blocks of a prompt that gave a token are stored, unless nobody is told."""
        cached = min(cached, prompt)
        stored = ticket.published and output > 0
        written = max(0, prompt // block_tokens * block_tokens - cached) if stored else 0
        return cls(
            ticket.id, ticket.attempt, ticket.tenant, model, prompt, cached, written, output, finish, ticket.issued_s
        )


class Ledger(Protocol):
    """Every implementation passes tests/workers/test_ledger.py. Raises `LedgerDown`."""

    async def write(self, usage: Usage) -> bool:
        """Add an entry; False if that attempt has one: the first stands."""
        ...

    def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        """The entries of a tenant's day, in no order."""
        ...


class MemoryLedger:
    """For tests and simulations."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], dict[tuple[str, int], Usage]] = {}

    async def write(self, usage: Usage) -> bool:
        entries = self._entries.setdefault((usage.tenant, usage.day), {})
        return entries.setdefault((usage.decision, usage.attempt), usage) is usage

    async def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        for usage in self._entries.get((tenant, day), {}).values():
            yield usage
