"""A router's copy of the book: it follows changes, and outlives the store."""

import pytest

from kvplane.controlplane.accounts import BookReader, Tenant, record_of
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.errors import AccountsDown, Overloaded

KEY = "sk-acme-0123456789"
ACME = Tenant(organisation="acme")


class Breakable(MemoryAccounts):
    """Accounts that can be down."""

    down = False

    async def revision(self) -> int:
        if self.down:
            raise AccountsDown("no answer")
        return await super().revision()


@pytest.fixture
async def accounts() -> Breakable:
    accounts = Breakable(lambda: 0.0)
    await accounts.put(ACME)
    await accounts.add_key(record_of(KEY, ACME))
    return accounts


async def test_a_change_is_seen_at_the_next_look(accounts: Breakable) -> None:
    reader = BookReader(accounts)
    assert await reader.look()
    before = reader.caller(KEY)
    await accounts.put(ACME.model_copy(update={"disabled": True}))
    unseen = reader.caller(KEY)
    await reader.look()
    after = reader.caller(KEY)
    await accounts.revoke(record_of(KEY, ACME).id)
    await reader.look()

    assert before == unseen
    assert before is not None
    assert after is not None
    assert (before.tenant.disabled, after.tenant.disabled) == (False, True)
    assert reader.caller(KEY) is None


async def test_what_was_read_once_stays_in_use_while_the_store_is_down(accounts: Breakable) -> None:
    reader = BookReader(accounts)
    await reader.look()
    accounts.down = True

    assert not await reader.look()
    assert reader.caller(KEY) is not None


async def test_until_then_nobody_is_taken_for_a_stranger(accounts: Breakable) -> None:
    accounts.down = True
    reader = BookReader(accounts)
    await reader.look()

    assert not reader.is_read
    with pytest.raises(Overloaded, match="accounts"):
        reader.caller(KEY)
