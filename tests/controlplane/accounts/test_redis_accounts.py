"""What only accounts in Redis can show: crashes, full and foreign stores, records of later versions."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from kvplane.controlplane.accounts import KeyRecord, PublicPrefix, Rate, Rules, Tenant
from kvplane.controlplane.accounts.redis_accounts import RedisAccounts
from kvplane.controlplane.errors import AccountsDown
from kvplane.directory import DirectorySettings, open_client
from kvplane.tests.servers import HOST, Server, eventually, free_ports

from .stores import SLOW

WAIT_S = 20.0
TENANTS = "{kvplane:accounts}:tenants"
ACME = Tenant(organisation="acme")
KEY = KeyRecord(digest="ab" * 32, tenant=ACME.name)
CODE = PublicPrefix(name="code", system="Be brief.", tenants=(ACME.name,))
DEEP = Rate(per_s=0.001, burst=100_000.0)


@pytest.fixture
async def accounts(accounts_server: Server) -> AsyncIterator[RedisAccounts]:
    accounts_server.ask("FLUSHALL")
    async with open_client(accounts_server.url, DirectorySettings()) as client:
        yield RedisAccounts(client)


async def write(accounts: RedisAccounts, acknowledged: list[int]) -> None:
    """Tenants, keys and leases of one unit, until the store is down; a number is noted once all three are."""
    for number in count():
        try:
            await accounts.put(Tenant(organisation=f"t-{number}"))
            await accounts.add_key(KeyRecord(digest=f"{number:064x}", tenant=f"t-{number}/default"))
            await accounts.lease("b", DEEP, 1, 1)
        except AccountsDown:
            return
        acknowledged.append(number)


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    acknowledged: list[int] = []
    with Server(tmp_path, *options) as server:
        async with open_client(server.url, DirectorySettings()) as client, asyncio.timeout(WAIT_S):
            accounts = RedisAccounts(client)
            writing = asyncio.create_task(write(accounts, acknowledged))
            while len(acknowledged) < 50:
                await asyncio.sleep(0.001)
            server.kill()
            await writing
            server.start()
            book, lease = await accounts.read(), await accounts.lease("b", DEEP, 0, 0)

    assert {f"t-{number}/default" for number in acknowledged} <= set(book.tenants)
    assert {f"{number:064x}" for number in acknowledged} <= set(book.keys)
    assert book.revision == len(book.tenants) + len(book.keys)
    assert lease.left < DEEP.burst - len(acknowledged) + 0.5


async def test_a_record_of_a_later_version_costs_its_tenant_only(
    accounts: RedisAccounts, accounts_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    later = Tenant(organisation="later")
    for tenant in (ACME, later):
        await accounts.put(tenant)
    accounts_server.ask("HSET", TENANTS, later.name, '{"organisation": "later", "colour": "red"}')

    with caplog.at_level(logging.WARNING):
        books = [await accounts.read() for _ in range(2)]

    assert [set(book.tenants) for book in books] == [{ACME.name}] * 2
    [said] = caplog.messages
    assert "Tenant later/default is left out" in said
    assert "colour" in said
    assert "red" not in said


async def test_a_record_says_only_what_is_not_the_default(accounts: RedisAccounts, accounts_server: Server) -> None:
    await accounts.put(Tenant(organisation="acme", rules=Rules(concurrency=3)))

    record = json.loads(str(accounts_server.ask("HGET", TENANTS, ACME.name)))
    assert record == {"organisation": "acme", "rules": {"concurrency": 3}}


@pytest.mark.parametrize("hours, retry_s, left", [(-1, 0, 10), (1_000, 90_000, 0)])
async def test_a_clock_set_forward_or_back_fills_no_bucket_and_bars_nobody_for_long(
    accounts: RedisAccounts, accounts_server: Server, hours: int, retry_s: float, left: float
) -> None:
    full_at_us = (time.time() + 3_600 * hours) * 1e6
    accounts_server.ask("SET", "{kvplane:b}:bucket", str(full_at_us))
    accounts_server.ask("SET", "{kvplane:c}:bucket", str(full_at_us))

    lease = await accounts.lease("b", SLOW, 0, 0)
    await accounts.give_back("c", SLOW, -1)
    after = await accounts.lease("c", SLOW, 0, 0)

    assert [lease.retry_s, after.retry_s] == pytest.approx([retry_s, retry_s], rel=0.01)
    assert lease.left == left
    assert after.left == pytest.approx(max(left - 1, 0), abs=0.1)


async def test_full_buckets_and_ended_claims_take_no_memory(accounts: RedisAccounts, accounts_server: Server) -> None:
    await accounts.lease("refills", Rate(per_s=100.0, burst=5.0), 5, 5)
    await accounts.lease("returned", SLOW, 5, 5)
    await accounts.give_back("returned", SLOW, 5)
    await accounts.give_back("never used", SLOW, 5)
    await accounts.claim("ends", "r", 1, 1, 0.05)
    await accounts.claim("released", "r", 1, 1, 60.0)
    await accounts.claim("released", "r", 0, 1, 60.0)

    eventually(lambda: accounts_server.ask("DBSIZE") == 0)


async def test_a_short_claim_does_not_end_a_long_one(accounts: RedisAccounts) -> None:
    await accounts.claim("c", "long", 1, 2, 60.0)
    await accounts.claim("c", "short", 1, 2, 0.02)

    await asyncio.sleep(0.05)

    assert await accounts.claim("c", "new", 2, 2, 60.0) == 1


async def test_a_full_store_takes_no_tenant_but_revokes_and_releases(
    accounts: RedisAccounts, accounts_server: Server
) -> None:
    await accounts.put(ACME)
    await accounts.add_key(KEY)
    await accounts.publish(CODE)
    await accounts.lease("b", SLOW, 5, 5)
    await accounts.claim("c", "r", 1, 1, 60.0)
    revision = await accounts.revision()

    accounts_server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(AccountsDown, match="maxmemory"):
            await accounts.put(Tenant(organisation="globex"))
        revoked, withdrawn = await accounts.revoke(KEY.id), await accounts.withdraw(CODE.name)
        held = await accounts.claim("c", "r", 0, 1, 60.0)
        await accounts.give_back("b", SLOW, 5)
    finally:
        accounts_server.ask("CONFIG", "SET", "maxmemory", 0)

    book = await accounts.read()
    assert (revoked, withdrawn, held, book.keys, book.public) == (True, True, 0, {}, {})
    assert book.revision == revision + 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda it: it.revision(),
        lambda it: it.read(),
        lambda it: it.put(ACME),
        lambda it: it.add_key(KEY),
        lambda it: it.revoke("ab"),
        lambda it: it.publish(CODE),
        lambda it: it.withdraw("code"),
        lambda it: it.lease("b", SLOW, 1, 1),
        lambda it: it.give_back("b", SLOW, 1),
        lambda it: it.claim("c", "r", 1, 1, 1.0),
    ],
)
async def test_every_verb_says_that_the_accounts_are_down(ask: Callable[[RedisAccounts], Awaitable[object]]) -> None:
    [port] = free_ports(1)

    async with open_client(f"redis://{HOST}:{port}", DirectorySettings()) as client:
        with pytest.raises(AccountsDown, match=rf"^the accounts store .* connecting to {HOST}:{port}"):
            await ask(RedisAccounts(client))


async def test_a_key_of_another_making_is_told_as_such(accounts: RedisAccounts, accounts_server: Server) -> None:
    accounts_server.ask("SET", TENANTS, "something else")

    with pytest.raises(AccountsDown, match=r"^the accounts store .*WRONGTYPE"):
        await accounts.read()
