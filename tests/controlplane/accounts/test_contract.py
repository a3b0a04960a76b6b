"""The one suite every accounts store passes."""

import asyncio
import math

import pytest

from kvplane.controlplane.accounts import Book, KeyRecord, Lease, PublicPrefix, Rate, Rules, Tenant
from kvplane.controlplane.errors import ConfigError

from .stores import SLOW, Store

ACME = Tenant(organisation="acme")
ALL_RULES = Rules(
    requests_per_minute=600,
    tokens_per_minute=100_000,
    concurrency=8,
    write_blocks_per_minute=5_000,
    write_burst_blocks=500,
    over_write_limit="bypass",
    resident_share=0.25,
    weight=4.0,
    subdivide_by="user",
)


def key(digits: str, tenant: Tenant = ACME, isolation_key: str = "") -> KeyRecord:
    return KeyRecord(digest=digits.ljust(64, "0"), tenant=tenant.name, isolation_key=isolation_key)


def near(units: float) -> object:
    return pytest.approx(units, rel=0.02, abs=0.1)


def of(units: float, retry_s: float, left: float) -> Lease:
    return Lease(near(units), near(retry_s), near(left))  # type: ignore[arg-type]  # what compares equal to a number


async def test_an_empty_store_knows_nobody(store: Store) -> None:
    assert await store.accounts.revision() == 0
    assert await store.accounts.read() == Book(0, {}, {})


async def test_tenants_and_keys_are_read_as_they_were_put(store: Store) -> None:
    globex = Tenant(organisation="globex", workspace="research", disabled=True, rules=ALL_RULES)
    full = KeyRecord(digest="c" * 64, tenant=globex.name, isolation_key="é", hint="1234", created_s=1.5)

    await store.accounts.put(ACME)
    await store.accounts.put(globex)
    await store.accounts.add_key(key("ab"))
    await store.accounts.add_key(full)
    book = await store.accounts.read()

    assert book.tenants == {"acme/default": ACME, "globex/research": globex}
    assert book.keys == {key("ab").digest: key("ab"), full.digest: full}


async def test_a_tenant_put_again_is_changed_and_keeps_its_keys(store: Store) -> None:
    changed = Tenant(organisation="acme", rules=ALL_RULES)
    await store.accounts.put(ACME)
    await store.accounts.add_key(key("ab"))
    await store.accounts.put(changed)

    book = await store.accounts.read()
    assert book.tenants == {"acme/default": changed}
    assert list(book.keys) == [key("ab").digest]


async def test_the_revision_rises_with_every_change_and_with_nothing_else(store: Store) -> None:
    revisions = []
    for change in (
        store.accounts.put(ACME),
        store.accounts.put(ACME),
        store.accounts.add_key(key("ab")),
        store.accounts.add_key(key("ac")),
        store.accounts.revoke("ab"),
    ):
        await change
        revisions.append(await store.accounts.revision())
    await store.accounts.revoke("ab")
    with pytest.raises(ConfigError):
        await store.accounts.add_key(key("ad", Tenant(organisation="nobody")))

    assert revisions == [1, 2, 3, 4, 5]
    assert await store.accounts.revision() == 5
    assert (await store.accounts.read()).revision == 5


async def test_no_key_is_added_for_a_tenant_that_is_not_there(store: Store) -> None:
    await store.accounts.put(ACME)

    with pytest.raises(ConfigError, match="'nobody/default' is not"):
        await store.accounts.add_key(key("ab", Tenant(organisation="nobody")))
    assert not (await store.accounts.read()).keys


async def test_a_key_never_goes_from_one_tenant_to_another(store: Store) -> None:
    globex = Tenant(organisation="globex")
    await store.accounts.put(ACME)
    await store.accounts.put(globex)
    await store.accounts.add_key(key("ab"))

    await store.accounts.add_key(key("ab", isolation_key="apart"))
    with pytest.raises(ConfigError, match="another tenant"):
        await store.accounts.add_key(key("ab", globex))
    book = await store.accounts.read()

    assert book.keys == {key("ab").digest: key("ab", isolation_key="apart")}


async def test_a_key_is_revoked_by_as_much_of_its_id_as_tells_it_apart(store: Store) -> None:
    await store.accounts.put(ACME)
    for digits in ("ab1", "ab2", "b"):
        await store.accounts.add_key(key(digits))

    unknown = await store.accounts.revoke("1")
    with pytest.raises(ConfigError, match="2 have an id that begins with 'ab'"):
        await store.accounts.revoke("ab")
    known = await store.accounts.revoke("ab2")

    assert (unknown, known) == (False, True)
    assert set((await store.accounts.read()).keys) == {key("ab1").digest, key("b").digest}


async def test_public_prefixes_are_read_with_the_rest_as_they_were_last_published(store: Store) -> None:
    code = PublicPrefix(name="code", system="Sei höflich.\r\n", tenants=(ACME.name, "globex/research"))
    changed, other = code.model_copy(update={"tenants": (ACME.name,)}), code.model_copy(update={"name": "other"})
    books = []
    for prefix in (code, other, changed):
        await store.accounts.publish(prefix)
        books.append(await store.accounts.read())

    assert [book.public for book in books] == [
        {"code": code},
        {"code": code, "other": other},
        {"code": changed, "other": other},
    ]
    assert [book.revision for book in books] == [1, 2, 3]


async def test_a_public_prefix_is_withdrawn_once(store: Store) -> None:
    await store.accounts.put(ACME)
    for name in ("a", "b"):
        await store.accounts.publish(PublicPrefix(name=name, system="Hi.", tenants=(ACME.name,)))
    withdrawn = [await store.accounts.withdraw(name) for name in ("a", "a", ACME.name)]
    book = await store.accounts.read()

    assert withdrawn == [True, False, False]
    assert (list(book.public), list(book.tenants), book.revision) == (["b"], [ACME.name], 4)


async def test_a_lease_is_what_is_wanted_or_what_is_there_or_nothing(store: Store) -> None:
    async def lease(need: float, want: float) -> Lease:
        return await store.accounts.lease("b", SLOW, need, want)

    assert await lease(1, 6) == of(6, retry_s=0, left=4)
    assert await lease(5, 6) == of(0, retry_s=1_000, left=4)  # one is lacking, and takes 1 / 0.001 s
    assert await lease(2, 6) == of(4, retry_s=0, left=0)
    assert await lease(2, 6) == of(0, retry_s=2_000, left=0)


async def test_more_than_the_burst_is_never_there(store: Store) -> None:
    lease = await store.accounts.lease("b", SLOW, 10.5, 20)

    assert lease == of(0, retry_s=math.inf, left=10)
    assert await store.accounts.lease("b", SLOW, 10, 20) == of(10, retry_s=0, left=0)


async def test_units_come_back_when_a_lease_said_they_would(store: Store) -> None:
    rate = Rate(per_s=100.0, burst=10.0)
    await store.accounts.lease("b", rate, 10, 10)

    refused = await store.accounts.lease("b", rate, 5, 5)
    await store.later(refused.retry_s)
    granted = await store.accounts.lease("b", rate, 5, 5)
    await store.later(0.15)
    full = await store.accounts.lease("b", rate, 0, 0)

    assert (refused.units, granted.units) == (0, 5)
    assert 0 < refused.retry_s < 0.0501
    assert full == Lease(0, 0, left=10)


async def test_what_is_given_back_is_there_again_up_to_the_burst(store: Store) -> None:
    await store.accounts.lease("b", SLOW, 8, 8)

    await store.accounts.give_back("b", SLOW, 3)
    some = await store.accounts.lease("b", SLOW, 0, 0)
    await store.accounts.give_back("b", SLOW, 100)
    all_ = await store.accounts.lease("b", SLOW, 0, 0)

    assert some == of(0, retry_s=0, left=5)
    assert all_ == of(0, retry_s=0, left=10)


async def test_what_was_used_beyond_a_lease_is_paid_off_first(store: Store) -> None:
    await store.accounts.lease("b", SLOW, 8, 8)
    await store.accounts.give_back("b", SLOW, -5)

    owing = await store.accounts.lease("b", SLOW, 1, 1)
    nothing = await store.accounts.lease("b", SLOW, 0, 0)
    await store.accounts.give_back("b", SLOW, 6)

    assert owing == of(0, retry_s=4_000, left=0)
    assert nothing == of(0, retry_s=3_000, left=0)
    assert await store.accounts.lease("b", SLOW, 0, 0) == of(0, retry_s=0, left=3)


async def test_a_debt_ends_at_ten_bursts_below_the_burst(store: Store) -> None:
    for _ in range(2):
        await store.accounts.give_back("b", SLOW, -1_000_000)
    await store.accounts.give_back("b", SLOW, 20)

    lease = await store.accounts.lease("b", SLOW, 1, 1)
    assert lease == of(0, retry_s=71_000, left=0)  # from 10 - 10 * 10 + 20 to 1 at 0.001 a second


async def test_what_is_beyond_that_debt_need_not_be_paid_off(store: Store) -> None:
    rate = Rate(per_s=100.0, burst=1.0)
    await store.accounts.give_back("b", rate, -1_000_000)

    await store.later(0.1)

    assert (await store.accounts.lease("b", rate, 1, 1)).units == 1


async def test_under_other_terms_a_bucket_is_full_when_it_would_have_been(store: Store) -> None:
    await store.accounts.lease("b", SLOW, 10, 10)

    faster = await store.accounts.lease("b", Rate(per_s=0.002, burst=10), 10, 10)
    larger = await store.accounts.lease("b", Rate(per_s=0.002, burst=40), 40, 40)
    slower = await store.accounts.lease("b", Rate(per_s=0.0005, burst=10), 0, 0)
    much_faster = await store.accounts.lease("b", Rate(per_s=1, burst=10), 10, 10)

    assert faster == of(0, retry_s=10_000, left=0)
    assert larger == of(0, retry_s=10_000, left=20)
    assert slower == of(0, retry_s=0, left=5)
    assert much_faster == of(0, retry_s=100, left=0)  # and never later than ten bursts take


@pytest.mark.parametrize("name", ["accounts", "{", "a}b", "a}c", "é" * 256, "tokens:acme/default"])
async def test_a_name_may_be_any_text_and_shares_nothing(store: Store, name: str) -> None:
    await store.accounts.put(ACME)
    await store.accounts.lease("tokens:acme", SLOW, 10, 10)
    await store.accounts.claim("tokens:acme", "r", 3, 3, 60)

    lease = await store.accounts.lease(name, SLOW, 4, 4)
    places = await store.accounts.claim(name, name, 3, 3, 60)
    again = await store.accounts.lease(name, SLOW, 0, 0)
    book = await store.accounts.read()

    assert (lease, places, again) == (of(4, 0, left=6), 3, of(0, 0, left=6))
    assert book.tenants == {ACME.name: ACME}


async def test_eight_at_once_take_what_comes_back_and_no_more(store: Store) -> None:
    rate, began = Rate(per_s=100.0, burst=50.0), store.now()
    await store.accounts.lease("b", rate, 50, 50)
    emptied, taken = store.now(), [0.0] * 8

    async def hammer(who: int) -> None:
        while store.now() < emptied + 0.4:
            taken[who] += (await store.accounts.lease("b", rate, 1, 7)).units
            if who == 0:
                await store.accounts.give_back("b", rate, 0.5)
                taken[who] -= 0.5
            await store.later(0.001)

    async with asyncio.TaskGroup() as tasks:
        for who in range(8):
            tasks.create_task(hammer(who))
    last = await store.accounts.lease("b", rate, 0, 50)

    assert 100 * 0.39 < sum(taken) + last.units <= 100 * (store.now() - began) + 0.01


async def test_places_are_claimed_up_to_the_limit_and_anew_in_place_of_what_was_held(store: Store) -> None:
    async def claim(router: str, wanted: int, limit: int = 5) -> int:
        return await store.accounts.claim("c", router, wanted, limit, 60.0)

    assert [await claim("a", 3), await claim("b", 4), await claim("c", 1)] == [3, 2, 0]
    assert [await claim("a", 1), await claim("b", 9)] == [1, 4]
    assert [await claim("a", 0), await claim("b", 9)] == [0, 5]
    assert [await claim("a", 1, limit=3), await claim("b", 9, limit=3)] == [0, 3]
    assert await store.accounts.claim("other", "a", 5, 5, 60.0) == 5


async def test_a_claim_that_is_not_renewed_ends_and_others_stay(store: Store) -> None:
    async def claim(router: str, wanted: int, ttl_s: float) -> int:
        return await store.accounts.claim("c", router, wanted, 6, ttl_s)

    first = [await claim("long", 1, 60.0), await claim("renewed", 2, 0.05), await claim("silent", 3, 0.05)]
    await claim("renewed", 2, 60.0)
    before = await claim("new", 6, 60.0)
    await store.later(0.06)
    after = await claim("new", 6, 60.0)

    assert (first, before, after) == ([1, 2, 3], 0, 3)
