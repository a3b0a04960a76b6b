"""A request waits for the accounts store once, whatever limits its tenant has."""

import asyncio

from kvplane.controlplane.accounts import Caller, Rules, Tenant
from kvplane.controlplane.gate import Gate
from kvplane.directory import Domain
from kvplane.tests.stores import Clock, Store

BLOCK = 16
ALL_LIMITS = Rules(requests_per_minute=100, tokens_per_minute=10_000, concurrency=10, write_blocks_per_minute=1000)


def caller(rules: Rules) -> Caller:
    return Caller(Tenant(organisation="acme", rules=rules), Domain("acme", "default"))


async def test_all_limits_are_asked_for_at_the_same_time_and_what_may_be_written_is_then_here() -> None:
    store, acme = Store(Clock()), caller(ALL_LIMITS)
    gate = Gate(store, "r1", lambda: 1, BLOCK)
    store.held = asyncio.Event()

    admitting = asyncio.create_task(gate.admit(acme, 40 * BLOCK, 10 * BLOCK))
    for _ in range(10):
        await asyncio.sleep(0)
    asked = store.asked
    store.held.set()
    await admitting
    budget = await gate.budget(acme, 40 * BLOCK, 10 * BLOCK)

    assert (asked, store.asked) == (4, 4)
    assert budget is not None
    assert budget.fits(50)
    assert gate.headers(acme)["x-ratelimit-remaining-tokens"] == str(10_000 - 50 * BLOCK)


async def test_where_only_the_blocks_are_not_here_only_they_are_asked_for() -> None:
    ample = {"requests_per_minute": 10_000, "tokens_per_minute": 10**6, "concurrency": 64}
    store, acme = Store(Clock()), caller(ALL_LIMITS.model_copy(update=ample))
    gate = Gate(store, "r1", lambda: 1, BLOCK)
    await gate.admit(acme, 10 * BLOCK, 0)
    budget = await gate.budget(acme, 10 * BLOCK, 0)
    assert budget is not None
    budget.charge("d1", 0)
    asked = store.asked

    await gate.admit(acme, 40 * BLOCK, 0)  # four requests as large as the first lie ready; of blocks 31, a 32nd
    after = store.asked
    await gate.budget(acme, 40 * BLOCK, 0)

    assert (after, store.asked) == (asked + 1, asked + 1)


async def test_while_the_store_is_out_of_reach_nobody_waits_even_for_another_task() -> None:
    store, acme = Store(Clock()), caller(ALL_LIMITS)
    gate = Gate(store, "r1", lambda: 1, BLOCK)
    store.is_down = True
    await gate.admit(acme, BLOCK, 0)
    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "ran")

    await gate.admit(acme, BLOCK, 0)
    await gate.budget(acme, BLOCK, 0)

    assert not others


async def test_a_tenant_without_rules_asks_nobody() -> None:
    store, acme = Store(Clock()), caller(Rules())
    gate = Gate(store, "r1", lambda: 1, BLOCK)

    await (await gate.admit(acme, 10**6, 10**6)).close()

    assert await gate.budget(acme, 10**6, 10**6) is None
    assert (store.asked, gate.headers(acme)) == (0, {})
