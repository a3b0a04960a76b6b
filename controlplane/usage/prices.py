"""What tokens cost: a table that is data, read from YAML, in exact decimals.

currency: USD
prices:                     # per million tokens; the latest row that is valid and matches counts
  - {model: "smollm2*", valid_from: 2026-01-01, input: 0.10, cached_read: 0.01, cache_write: 0.125, output: 0.40}
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...workers import Usage
from ..errors import ConfigError

_MILLION = Decimal(1_000_000)


class Price(BaseModel):
    """Of a million tokens of one model, or of all that a pattern matches, from one day on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    valid_from: date
    input: Decimal = Field(ge=0)
    cached_read: Decimal = Field(ge=0)
    cache_write: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)

    @field_validator("input", "cached_read", "cache_write", "output", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        """YAML has made a float of it, whose shortest form is what stood there."""
        return str(value) if isinstance(value, float) else value

    def of(self, usage: Usage) -> Decimal:
        """The cost of an attempt. One that only repeats what a failed replica had begun pays for its output alone."""
        cost = usage.output_tokens * self.output
        if usage.attempt == 0:
            cost += usage.cached_tokens * self.cached_read + usage.written_tokens * self.cache_write
            cost += usage.uncached_tokens * self.input
        return cost / _MILLION


class PriceTable(BaseModel):
    """Rows of one currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = Field(min_length=1)
    prices: tuple[Price, ...] = Field(min_length=1)

    def at(self, model: str, at_s: float) -> Price | None:
        """The price of a model at a time, of the latest row, the last of those of one day; None if no row says."""
        day = datetime.fromtimestamp(at_s, UTC).date()
        valid = [price for price in self.prices if price.valid_from <= day and fnmatchcase(model, price.model)]
        return max(reversed(valid), key=lambda price: price.valid_from, default=None)


def read_prices(path: Path) -> PriceTable:
    """Read and check a table. Raises `ConfigError`."""
    try:
        return PriceTable.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
