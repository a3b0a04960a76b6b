"""Sums over the ledger."""

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from decimal import Decimal

from ...workers import Usage
from .prices import PriceTable


@dataclass(slots=True)
class Total:
    """Tokens of many attempts: cached + written + uncached = prompt. Those `repeated` were sent again, at no charge.

    Costs are of what has a price; `unpriced` counts attempts that have none.
    """

    requests: int = 0
    interrupted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    uncached_tokens: int = 0
    output_tokens: int = 0
    repeated_tokens: int = 0
    cost: Decimal = field(default_factory=Decimal)
    unpriced: int = 0

    def add(self, usage: Usage, prices: PriceTable | None) -> None:
        """Count an attempt in."""
        self.interrupted += usage.finish == "interrupted"
        self.output_tokens += usage.output_tokens
        if usage.attempt:
            self.repeated_tokens += usage.prompt_tokens
        else:
            self.requests += 1
            self.prompt_tokens += usage.prompt_tokens
            self.cached_tokens += usage.cached_tokens
            self.written_tokens += usage.written_tokens
            self.uncached_tokens += usage.uncached_tokens
        price = prices.at(usage.model, usage.at_s) if prices else None
        if price is None:
            self.unpriced += 1
        else:
            self.cost += price.of(usage)


async def totals(
    entries: AsyncIterable[Usage], key: Callable[[Usage], str], prices: PriceTable | None
) -> dict[str, Total]:
    """A total for each key."""
    found: dict[str, Total] = {}
    async for usage in entries:
        found.setdefault(key(usage), Total()).add(usage, prices)
    return found
