"""What accounts begin with: a file of tenants, and a bad one says what is wrong and shows no key."""

from pathlib import Path

import pytest

from kvplane.controlplane.accounts import Rules, Tenant, first_keys, parse_tenants, take_in, write_example
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.errors import ConfigError
from kvplane.directory import Domain

FILE = """
tenants:
  - organisation: acme
    workspace: support
    keys: [sk-acme-0123456789, sk-acme-abcdefghij]
    rules: {requests_per_minute: 60}
  - organisation: globex
    isolation_key: blue
    disabled: true
    keys: [sk-globex-0123456789]
"""


async def test_every_key_leads_to_its_tenant_and_domain_and_no_other() -> None:
    accounts = MemoryAccounts(lambda: 0.0)
    await take_in(accounts, parse_tenants(FILE, "t.yaml"))
    book = await accounts.read()

    first, second = book.caller("sk-acme-0123456789"), book.caller("sk-acme-abcdefghij")
    assert first == second
    assert first is not None
    assert first.domain == Domain("acme", "support")
    assert first.tenant == Tenant(organisation="acme", workspace="support", rules=Rules(requests_per_minute=60))
    globex = book.caller("sk-globex-0123456789")
    assert globex is not None
    assert (globex.domain, globex.tenant.disabled) == (Domain("globex", "default", "blue"), True)
    assert book.caller("sk-acme-012345678") is None
    assert "0123456789" not in repr(book)


async def test_a_salt_epoch_never_goes_back_whatever_a_file_says() -> None:
    accounts = MemoryAccounts(lambda: 0.0)
    rows = parse_tenants(FILE, "t.yaml")
    await accounts.put(rows[0].tenant.model_copy(update={"salt_epoch": 3}))

    await take_in(accounts, rows)
    kept = (await accounts.read()).tenants
    await take_in(accounts, parse_tenants(FILE.replace("disabled: true", "salt_epoch: 4"), "t.yaml"))

    assert {name: tenant.salt_epoch for name, tenant in kept.items()} == {"acme/support": 3, "globex/default": 0}
    assert kept["acme/support"].rules == Rules(requests_per_minute=60)
    assert (await accounts.read()).tenants["globex/default"].salt_epoch == 4


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("tenants: []", "at least 1 item"),
        ("[]", "at least 1 item"),
        ("tenants: [{organisation: a, keys: [short]}]", "16 characters or more"),
        ("tenants: [{organisation: A B, keys: [0123456789abcdef]}]", "match pattern"),
        ("tenants: [{organisation: a, keys: [0123456789abcdef], role: x}]", "Extra inputs"),
        ("tenants: [{organisation: a, keys: [0123456789abcdef], rules: {concurrency: 0}}]", "greater than"),
        ("tenants: [", "line 1"),
        (FILE + "  - {organisation: 'x, keys: [0123456789abcdefg]}", "end of stream"),
        (FILE + "  - {organisation: third, keys: [sk-globex-0123456789]}", "two tenants"),
        (FILE + "  - {organisation: globex, isolation_key: blue, keys: [sk-globex-9876543210]}", "stands twice"),
    ],
)
def test_a_bad_file_says_where_and_what_but_no_key(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        parse_tenants(text, "t.yaml")

    assert "t.yaml" in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_the_example_has_two_tenants_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tenants.yaml"
    write_example(path)

    assert set(first_keys(path)) == {"acme", "globex"}
    assert first_keys(tmp_path / "none.yaml") == {}
    assert path.stat().st_mode & 0o077 == 0
