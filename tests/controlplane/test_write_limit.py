"""Writes are charged once as expected, settled once as told, and what is above the limit follows the tenant's rule."""

import math
from typing import Any

import pytest

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.breaker import Breaker
from kvplane.controlplane.errors import BadRequest, LimitReached
from kvplane.controlplane.write_limit import WITHIN, WriteLimit, over_share
from kvplane.directory import Domain
from kvplane.directory.wire import Finish, Served
from kvplane.tests.stores import Clock, Store

BLOCK = 16


class Router:
    """One router's write limit, by a clock that stands still."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        self.limit = WriteLimit(Breaker(self.store, self.clock), BLOCK, lambda: 2, self.clock)

    async def room(self, acme: Caller) -> int:
        """The most blocks, of a hundred, that one prompt could write."""
        budget = await self.limit.budget(acme, 100 * BLOCK, 0)
        for blocks in range(100, 0, -1):
            if await budget.appeal((100 - blocks) * BLOCK) == WITHIN:
                return blocks
        return 0


def caller(per_minute: int | None = 60, **rules: Any) -> Caller:  # as pydantic takes them
    tenant = Tenant(organisation="acme", rules=Rules(write_blocks_per_minute=per_minute, **rules))
    return Caller(tenant, Domain("acme", "default"))


def served(decision: str, prompt: int, cached: int, output: int, finish: Finish = "stop") -> Served:
    return Served(decision, "r1", finish, prompt, cached, output, 1.0, 1.0, 9.0)


async def test_a_charge_is_the_uncached_prompt_and_the_expected_output_in_blocks() -> None:
    router, acme = Router(), caller(per_minute=100)

    budget = await router.limit.budget(acme, prompt_tokens=20 * BLOCK + 1, max_tokens=5 * BLOCK)
    assert [budget.blocks(cached) for cached in (0, 15 * BLOCK, 20 * BLOCK)] == [26, 11, 6]
    assert budget.verdict(15 * BLOCK) == WITHIN
    budget.charge("d1", 15 * BLOCK)

    assert await router.room(acme) == 100 - 11


async def test_what_nobody_carries_out_is_not_charged() -> None:
    router, acme = Router(), caller(per_minute=100)
    budget = await router.limit.budget(acme, 20 * BLOCK, 5 * BLOCK)
    budget.charge("d1", 0)
    budget.charge("d2", 15 * BLOCK)
    for _ in range(2):
        budget.cancel("d1")

    assert await router.room(acme) == 100 - 10


async def test_a_decision_is_charged_once_and_settled_once() -> None:
    router, acme = Router(), caller(per_minute=100)
    budget = await router.limit.budget(acme, 20 * BLOCK, 4 * BLOCK)
    for _ in range(2):
        budget.charge("d1", 0)
    assert await router.room(acme) == 100 - 24

    for _ in range(2):  # all but 8 blocks were cached, and 10 tokens came
        router.limit.settle(served("d1", 20 * BLOCK, 12 * BLOCK, 10))
        budget.charge("d1", 0)
    router.limit.settle(served("anothers", 20 * BLOCK, 0, 10))

    assert await router.room(acme) == 100 - 9


async def test_what_was_written_beyond_the_charge_is_owed() -> None:
    router, acme = Router(), caller(per_minute=60)
    budget = await router.limit.budget(acme, 50 * BLOCK, 2 * BLOCK)
    budget.charge("d1", 48 * BLOCK)  # where it was thought to be cached

    router.limit.settle(served("d1", 50 * BLOCK, 0, 2 * BLOCK))

    assert await router.room(acme) == 60 - 52


async def test_an_attempt_that_failed_stays_charged_until_another_tells() -> None:
    router, acme = Router(), caller(per_minute=60)
    (await router.limit.budget(acme, 40 * BLOCK, 0)).charge("d1", 0)

    router.limit.settle(served("d1", 40 * BLOCK, 0, 0, "failed"))
    assert await router.room(acme) == 20
    router.limit.settle(served("d1", 40 * BLOCK, 30 * BLOCK, 0))

    assert await router.room(acme) == 50


async def test_the_expected_output_follows_what_the_tenant_generates_and_never_passes_its_limit() -> None:
    router, acme = Router(), caller(per_minute=100_000)
    expected = []
    for number, output in enumerate([0, 0, 80 * BLOCK]):
        budget = await router.limit.budget(acme, 0, 64 * BLOCK)
        budget.charge(f"d{number}", 0)
        router.limit.settle(served(f"d{number}", 0, 0, output))
        expected.append((await router.limit.budget(acme, 0, 64 * BLOCK)).blocks(0))

    assert expected == [56, 49, 51]  # 64 * 7/8, 64 * (7/8)^2, and an eighth nearer to 64: 50.875


@pytest.mark.parametrize("rule", ["reject", "confine", "bypass"])
async def test_above_the_limit_the_tenants_rule_is_the_answer(rule: OverLimit) -> None:
    router, acme = Router(), caller(per_minute=60, write_burst_blocks=30, over_write_limit=rule)
    (await router.limit.budget(acme, 20 * BLOCK, 0)).charge("d1", 0)

    budget = await router.limit.budget(acme, 25 * BLOCK, 0)
    verdict = budget.verdict(0)
    assert verdict.answer == rule
    assert verdict.retry_s == pytest.approx(15.0)
    assert verdict.reason == "25 blocks to write, of 60 a minute and 30 at once"
    assert (await router.limit.budget(acme, 31 * BLOCK, 0)).verdict(0).retry_s == math.inf

    router.clock.now_s += 15.0
    assert (await router.limit.budget(acme, 25 * BLOCK, 0)).verdict(0) == WITHIN


async def test_a_refusal_says_when_to_come_back_or_that_the_prompt_is_too_long() -> None:
    router, acme = Router(), caller(per_minute=60, write_burst_blocks=30, over_write_limit="reject")
    (await router.limit.budget(acme, 20 * BLOCK, 0)).charge("d1", 0)

    later = (await router.limit.budget(acme, 25 * BLOCK, 0)).verdict(0).refusal("acme/default")
    never = (await router.limit.budget(acme, 31 * BLOCK, 0)).verdict(0).refusal("acme/default")

    assert isinstance(later, LimitReached)
    assert (later.retry_after_s, later.code) == (15, "write_limit_exceeded")
    assert "25 blocks to write, of 60 a minute and 30 at once; try again in 15 s" in later.message
    assert isinstance(never, BadRequest)
    assert "31 blocks to write" in never.message


async def test_a_long_prompt_that_is_cached_fits_where_all_of_it_would_not() -> None:
    router, acme = Router(), caller(per_minute=100_000, write_burst_blocks=100)
    for number in range(20):  # its requests write a tenth of what they ask for
        budget = await router.limit.budget(acme, 100 * BLOCK, 0)
        budget.charge(f"d{number}", 90 * BLOCK)
        router.limit.settle(served(f"d{number}", 100 * BLOCK, 90 * BLOCK, 0))
        router.clock.now_s += 60.0
    await _charge(router, acme, "big", 50)

    budget = await router.limit.budget(acme, 200 * BLOCK, 0)

    assert budget.verdict(180 * BLOCK) == WITHIN
    assert budget.verdict(160 * BLOCK).answer == "confine"
    assert await budget.appeal(160 * BLOCK) == WITHIN
    assert (await budget.appeal(140 * BLOCK)).answer == "confine"


@pytest.mark.parametrize("burst, fits", [(3200 * 2, True), (3199 * 2, False)])
async def test_what_a_prompt_could_write_at_the_most_is_leased_along_where_it_is_little(burst: int, fits: bool) -> None:
    router, acme = Router(), caller(per_minute=10**6, write_burst_blocks=burst)
    for number in range(50):  # its requests write a tenth of what they ask for
        budget = await router.limit.budget(acme, 10 * BLOCK, 0)
        budget.charge(f"d{number}", 9 * BLOCK)
        router.limit.settle(served(f"d{number}", 10 * BLOCK, 9 * BLOCK, 0))
    for _ in range(3):
        router.clock.now_s += 60.0  # what lies ready goes back
        await router.limit.tidy()

    budget = await router.limit.budget(acme, 100 * BLOCK, 0)

    assert budget.fits(11)
    assert budget.fits(100) == fits  # of 3200 blocks for each of two routers, a 32nd


async def test_a_prompt_whose_blocks_are_here_is_ready_and_a_longer_one_is_not() -> None:
    router, acme = Router(), caller(per_minute=6400)
    assert not router.limit.is_ready(acme, 90 * BLOCK, 10 * BLOCK)
    await router.limit.budget(acme, 90 * BLOCK, 10 * BLOCK)
    asked = router.store.asked

    assert router.limit.is_ready(acme, 90 * BLOCK, 10 * BLOCK)
    assert not router.limit.is_ready(acme, 191 * BLOCK, 10 * BLOCK)
    assert router.limit.is_ready(caller(per_minute=None), 10**6, 0)
    assert router.store.asked == asked


async def test_a_tenant_without_a_write_limit_is_always_within_unless_it_crowds_the_caches() -> None:
    router, acme = Router(), caller(per_minute=None, resident_share=0.25)
    budget = await router.limit.budget(acme, 10**6, 10**6)
    budget.charge("d1", 0)

    assert budget.verdict(0) == WITHIN
    crowding = budget.verdict(0, crowding=over_share(acme.tenant.rules, 26, 100))
    assert (crowding.answer, crowding.reason) == ("confine", "its blocks are more than 25% of the caches")
    assert not over_share(acme.tenant.rules, 25, 100)
    assert not over_share(Rules(), 100, 100)
    assert router.store.asked == 0


async def test_charges_are_forgotten_after_ten_thousand_others_and_then_stay() -> None:
    router, acme = Router(), caller(per_minute=10_050)
    budget = await router.limit.budget(acme, BLOCK, 0)
    for number in range(10_001):
        budget.charge(f"d{number}", 0)

    router.limit.settle(served("d0", BLOCK, BLOCK, 0))
    assert await router.room(acme) == 49
    router.limit.settle(served("d1", BLOCK, BLOCK, 0))

    assert await router.room(acme) == 50


async def _charge(router: Router, acme: Caller, decision: str, blocks: int) -> None:
    budget = await router.limit.budget(acme, blocks * BLOCK, 0)
    await budget.appeal(0)
    budget.charge(decision, 0)


async def test_idle_leases_go_back_to_the_bucket() -> None:
    router, acme = Router(), caller(per_minute=100)
    await router.limit.budget(acme, 50 * BLOCK, 0)

    for _ in range(2):
        router.clock.now_s += 2.5
        await router.limit.tidy()

    assert router.store.returned == [50]
