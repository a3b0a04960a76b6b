"""Routers spend what was leased and no more, whatever they do in whatever order, and little lies idle."""

import asyncio
import math
import random
from collections.abc import Awaitable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.controlplane.accounts import Rate
from kvplane.controlplane.tidying import tidy
from kvplane.tests.allowances import Fleet


async def test_what_is_here_is_taken_without_asking_and_what_is_not_is_leased() -> None:
    fleet = Fleet(Rate(1.0, 80.0), routers=1)
    router = fleet.routers[0]

    assert not router.take(3)
    assert await router.draw(3) == 0
    assert fleet.store.leases == [(3, 3)]
    router.put_back(2)
    assert not router.take(3)
    assert router.take(2)
    assert not router.take(1)
    assert (fleet.store.asked, router.left) == (1, 77)


async def test_an_empty_bucket_says_when_to_come_back_and_a_need_above_the_burst_never_is_granted() -> None:
    fleet = Fleet(Rate(2.0, 10.0), routers=1)
    router = fleet.routers[0]
    await router.draw(10)

    assert await router.draw(4) == pytest.approx(2.0)
    assert await router.draw(11) == math.inf
    fleet.clock.now_s += 2.0
    assert await router.draw(4) == 0


async def test_an_empty_bucket_is_asked_ten_times_a_second_at_most_whatever_comes() -> None:
    fleet = Fleet(Rate(1.0, 10.0), routers=1)
    await fleet.routers[0].draw(10)
    fleet.store.asked = 0

    for _ in range(1000):
        fleet.clock.now_s += 0.001
        await fleet.routers[0].draw(5)

    assert fleet.store.asked <= 10


async def test_those_who_wait_for_a_lease_share_one_round_trip() -> None:
    fleet = Fleet(Rate(1.0, 800.0), routers=16)  # no more than 1.6 lie ready
    fleet.store.held = asyncio.Event()
    waiting = [asyncio.create_task(_passed(fleet.routers[0].draw(2))) for _ in range(20)]
    await asyncio.sleep(0)
    fleet.store.held.set()

    assert await asyncio.gather(*waiting) == [0] * 20
    assert fleet.store.leases == [(2, 2), (2, 40)]  # for the other 19, and 2 more at the pace so far


async def test_what_was_not_used_for_two_seconds_goes_back() -> None:
    fleet = Fleet(Rate(0.001, 100.0), routers=2)
    here, there = fleet.routers
    await here.ready(60)
    here.take(10)
    await fleet.tidy()
    assert await there.draw(50) > 0

    fleet.clock.now_s += 2.0
    await fleet.tidy()
    assert fleet.store.returned == []  # the 60 were not here when the period began
    fleet.clock.now_s += 2.0
    here.take(20)
    await fleet.tidy()

    assert fleet.store.returned == [30]
    assert await there.draw(50) == 0
    assert not here.take(1)


async def test_debts_are_paid_before_anything_is_granted() -> None:
    fleet = Fleet(Rate(1.0, 10.0), routers=2)
    here, there = fleet.routers
    await here.draw(1)
    here.put_back(-15)

    assert not here.take(1)
    assert await here.draw(1) == pytest.approx(7.0)  # 10 - 1 - 15 = -6
    fleet.clock.now_s += 2.0
    await tidy([here])
    assert await there.draw(1) == pytest.approx(6.0)  # it was full when it was paid
    fleet.clock.now_s += 6.0
    assert await there.draw(1) == 0


@pytest.mark.parametrize("how", ["is_down", "hangs"])
async def test_out_of_reach_of_the_store_a_router_spends_its_lease_and_then_its_share(how: str) -> None:
    fleet = Fleet(Rate(8.0, 80.0))
    router = fleet.routers[0]
    await router.ready(30)
    setattr(fleet.store, how, True)

    assert router.take(30)
    assert await router.draw(10) == 0  # 80 / 8
    assert await router.draw(2) == pytest.approx(2.0)  # at 8 / 8 a second
    fleet.clock.now_s += 2.0
    assert await router.draw(2) == 0
    assert await router.draw(11) == 1.0
    assert fleet.store.asked <= 4


async def test_what_an_outage_lent_is_owed_when_the_store_is_back() -> None:
    fleet = Fleet(Rate(8.0, 80.0))
    fleet.store.is_down = True
    for router in fleet.routers:
        assert await router.draw(10) == 0
    fleet.store.is_down = False
    fleet.clock.now_s += 2.0

    for router in fleet.routers:
        await router.draw(1)  # the first contact, and a lease of 5 more, until the last two find nothing

    assert fleet.store.returned == [pytest.approx(-(10 - 2))] * 8
    assert fleet.routers[0].left == pytest.approx(80 - 1 - 8)  # it has heard of nobody else's
    fleet.clock.now_s += 0.2
    assert await fleet.routers[0].draw(20) == pytest.approx((20 - 5 - (80 - 6 * 6 - 64 + 0.2 * 8)) / 8)


async def test_a_share_that_has_filled_up_again_is_not_owed() -> None:
    fleet = Fleet(Rate(8.0, 80.0))
    router = fleet.routers[0]
    fleet.store.is_down = True
    await router.draw(10)
    fleet.store.is_down = False
    fleet.clock.now_s += 10.0
    await tidy([router])

    await router.draw(1)

    assert fleet.store.returned == []


@pytest.mark.parametrize("need", [1, 7, 25])
async def test_a_flood_over_eight_routers_gets_the_rate_and_an_outage_at_most_doubles_it(need: int) -> None:
    rate = Rate(100.0, 400.0)
    fleet, rng = Fleet(rate), random.Random(1)
    used, used_by = 0, {}
    for tick in range(60_000):  # of 1 ms, each with 50 times what it may use, or more
        fleet.clock.now_s = 1000.0 + tick / 1000
        fleet.store.is_down = 30_000 <= tick < 40_000
        for _ in range(5 if need == 1 else 1):
            used += need if not await rng.choice(fleet.routers).draw(need) else 0
        if tick % 100 == 0:
            await fleet.tidy()
        if tick % 10_000 == 9_999:
            used_by[tick // 10_000] = used

    bound = {second: rate.burst + rate.per_s * 10 * (second + 1) for second in range(6)}
    assert all(0.95 * bound[second] - rate.burst <= used_by[second] <= bound[second] for second in (0, 1, 2))
    assert used_by[3] - used_by[2] <= 2 * (rate.burst + rate.per_s * 10)
    assert used_by[5] <= bound[5] + rate.burst
    assert used_by[5] >= 0.95 * rate.per_s * 60


async def test_a_tenant_that_one_router_serves_has_nearly_all_of_its_rate() -> None:
    rate = Rate(100.0, 100.0)
    fleet, used = Fleet(rate), 0
    for router in fleet.routers:
        await router.ready(12)  # an eighth of the burst to each, and never used
    for tick in range(10_000):
        fleet.clock.now_s += 0.001
        used += 5 if not await fleet.routers[0].draw(5) else 0
        if tick % 100 == 0:
            await fleet.tidy()

    assert 0.95 * rate.per_s * 10 <= used <= rate.burst + rate.per_s * 10


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.tuples(st.sampled_from(["take", "refund", "owe"]), st.floats(0, 12)),
            st.tuples(st.sampled_from(["ready", "draw"]), st.floats(0, 12)),
            st.tuples(st.just("wait"), st.floats(0, 0.5)),
            st.tuples(st.just("tidy"), st.just(0.0)),
        ),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_no_interleaving_uses_more_than_the_bucket_gave(steps: list[tuple[int, tuple[str, float]]]) -> None:
    rate = Rate(5.0, 10.0)
    fleet = Fleet(rate, routers=3)
    used = [0.0] * 3

    async def run() -> None:
        for who, (verb, units) in steps:
            router = fleet.routers[who]
            if verb == "take" and router.take(units):
                used[who] += units
            elif verb == "refund":
                router.put_back(min(units, used[who]))
                used[who] -= min(units, used[who])
            elif verb == "owe":
                router.put_back(-units)
            elif verb == "ready":
                await router.ready(units)
            elif verb == "draw" and not await router.draw(units):
                used[who] += units
            elif verb == "wait":
                fleet.clock.now_s += units
            elif verb == "tidy":
                await tidy([router])
            assert sum(used) <= rate.burst + rate.per_s * (fleet.clock.now_s - 1000.0) + 1e-3

    asyncio.run(run())


async def _passed(verb: Awaitable[float]) -> float:
    return await verb


async def test_what_goes_back_while_a_lease_comes_refuses_nobody_whom_the_bucket_would_serve() -> None:
    fleet = Fleet(Rate(1000.0, 1000.0), routers=1)
    router = fleet.routers[0]
    await router.draw(10)
    router.put_back(4)  # here: 4
    await tidy([router])
    fleet.clock.now_s += 2.0
    await tidy([router])
    await router.draw(10)
    router.put_back(4)
    fleet.clock.now_s += 2.0
    await tidy([router])
    fleet.clock.now_s += 2.0
    fleet.store.held = asyncio.Event()

    drawing = asyncio.create_task(router.draw(10))  # 6 more are leased
    await asyncio.sleep(0)
    tidying = asyncio.create_task(tidy([router]))  # and those 4 go back
    await asyncio.sleep(0)
    fleet.store.held.set()

    assert await drawing == 0
    await tidying
