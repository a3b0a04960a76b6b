"""What each request used, written once where it is billed from; the contract, and the simplest keeper of it."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol, Self

import msgspec

from .ticket import Ticket

Ending = Literal["stop", "length", "cancelled", "failed", "interrupted"]
AttemptKey = tuple[str, int]  # of which decision, and its number


class LedgerDown(Exception):
    """The ledger does not answer; what was to be written is kept."""


class Usage(msgspec.Struct, array_like=True, frozen=True):
    """One attempt at a request, in tokens: of the prompt `cached` were reused, `written` stored, the rest is neither.

    Its replica says what it generated. Its router says how it ended where the replica cannot know, by a stop string or
    `interrupted`; and what had come of it, `observed`, where the replica did not live to say.
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
    observed: bool = False  # by its router alone

    def __post_init__(self) -> None:
        if min(self.cached_tokens, self.written_tokens, self.uncached_tokens, self.output_tokens, self.attempt) < 0:
            raise ValueError(f"cached, written and uncached tokens make up the prompt, none below 0; got {self}")

    @property
    def uncached_tokens(self) -> int:
        """Prompt tokens that were computed and not stored."""
        return self.prompt_tokens - self.cached_tokens - self.written_tokens

    @property
    def of_attempt(self) -> AttemptKey:
        return self.decision, self.attempt

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
        """Add what a replica or, `observed`, a router says of an attempt; False if it has said so: the first stands."""
        ...

    def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        """The entries of a tenant's day, one for each attempt, in no order."""
        ...


class MemoryLedger:
    """For tests and simulations."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, bool], dict[AttemptKey, Usage]] = {}

    async def write(self, usage: Usage) -> bool:
        entries = self._entries.setdefault((usage.tenant, usage.day, usage.observed), {})
        return entries.setdefault(usage.of_attempt, usage) is usage

    async def read(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        observed = self._entries.get((tenant, day, True), {})
        async for usage in joined(self._counted(tenant, day), observed):
            yield usage

    async def _counted(self, tenant: str, day: str) -> AsyncIterator[Usage]:
        for usage in self._entries.get((tenant, day, False), {}).values():
            yield usage


async def joined(counted: AsyncIterable[Usage], observed: Mapping[AttemptKey, Usage]) -> AsyncIterator[Usage]:
    """One entry for each attempt: the tokens as its replica counted them, the end as its router observed it."""
    alone = dict(observed)
    async for usage in counted:
        seen = alone.pop(usage.of_attempt, None)
        yield usage if seen is None else msgspec.structs.replace(usage, finish=seen.finish)
    for usage in alone.values():
        yield usage
