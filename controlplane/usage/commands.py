"""`kvplane usage`: what tenants have used, summed from the ledger."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...directory import DirectorySettings, open_client
from ...workers import RedisLedger, Usage
from ..accounts import EVERYONE
from ..accounts.redis_accounts import RedisAccounts
from ..errors import AccountsDown, ConfigError
from ..operator import ACCOUNTS_FILE
from ..options import STATE, Accounts, Json, State
from ..since import epoch
from .prices import PriceTable, read_prices
from .totals import Total, totals

_MOST_DAYS = 3660


class By(StrEnum):
    """What a line is of."""

    TENANT = "tenant"
    MODEL = "model"
    DAY = "day"


_KEYS: Mapping[By, Callable[[Usage], str]] = {
    By.TENANT: lambda usage: usage.tenant,
    By.MODEL: lambda usage: usage.model,
    By.DAY: lambda usage: usage.day,
}


def usage_command(
    tenant: Annotated[str | None, typer.Option(help="Only this one, as organisation/workspace.")] = None,
    since: Annotated[str, typer.Option(help="From this on: 10m, 2h, 30d, or an ISO time.")] = "30d",
    until: Annotated[str | None, typer.Option(help="Before this, likewise; now if unset.")] = None,
    by: Annotated[By, typer.Option(help="What a line is of.")] = By.TENANT,
    prices: Annotated[Path | None, typer.Option(help="A YAML table of prices; without one, tokens alone.")] = None,
    state: State = STATE,
    accounts: Accounts = None,
    as_json: Json = False,
) -> None:
    """Sum what was used, and what it costs."""
    table = read_prices(prices) if prices else None
    begin, end = epoch(since), epoch(until) if until else datetime.now(UTC).timestamp()
    if begin > end:
        raise ConfigError(f"--since {since} is later than --until {until or 'now'}; nothing was used in between")
    found = asyncio.run(_summed(_url(state, accounts), tenant, begin, end, by, table))
    if as_json:
        rows = [{by.value: key, **asdict(total), "cost": _money(total, table)} for key, total in sorted(found.items())]
        typer.echo(json.dumps({"currency": table.currency if table else None, "rows": rows}, indent=2))
    else:
        Console().print(_table(by, found, table))


async def _summed(
    url: str, tenant: str | None, begin: float, end: float, by: By, prices: PriceTable | None
) -> dict[str, Total]:
    async with open_client(url, DirectorySettings()) as client:
        known = (await RedisAccounts(client).read()).tenants
        names = [tenant] if tenant else sorted({*known, EVERYONE.name})
        return await totals(_entries(RedisLedger(client), names, begin, end), _KEYS[by], prices)


async def _entries(ledger: RedisLedger, names: list[str], begin: float, end: float) -> AsyncIterator[Usage]:
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (begin, end))
    if (last - first).days > _MOST_DAYS:
        raise ConfigError(f"--since reaches back {(last - first).days} days; at most {_MOST_DAYS} are summed at once")
    for name in names:
        for number in range((last - first).days + 1):
            async for usage in ledger.read(name, (first + timedelta(days=number)).isoformat()):
                if begin <= usage.at_s < end:
                    yield usage


def _url(state: Path, accounts: str | None) -> str:
    path = state / ACCOUNTS_FILE
    if accounts is None and not path.exists():
        raise AccountsDown(f"{path} is not there; start an application with `kvplane up`, or name its state by --state")
    return accounts or path.read_text().strip()


def _money(total: Total, prices: PriceTable | None) -> str | None:
    """Exact, never in exponents."""
    return None if prices is None else format(total.cost, "f")


def _table(by: By, found: Mapping[str, Total], prices: PriceTable | None) -> Table:
    counts = ("requests", "prompt", "cached", "written", "uncached", "output", "repeated", "interrupted")
    cost = (f"cost, {prices.currency}", "unpriced") if prices else ()
    table = Table(by.value, *counts, *cost, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for key, total in sorted(found.items()):
        tokens = (total.prompt_tokens, total.cached_tokens, total.written_tokens, total.uncached_tokens)
        numbers = (total.requests, *tokens, total.output_tokens, total.repeated_tokens, total.interrupted)
        money = (_money(total, prices) or "", f"{total.unpriced:,}") if prices else ()
        table.add_row(key, *(f"{number:,}" for number in numbers), *money)
    return table
