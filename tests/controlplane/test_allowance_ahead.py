"""Most requests find here what they need: leased before it is wanted, and little of it lies idle."""

import asyncio

import pytest

from kvplane.controlplane.accounts import Rate
from kvplane.controlplane.tidying import tidy
from kvplane.tests.allowances import Fleet


async def test_a_lease_covers_the_next_second_at_the_pace_so_far_up_to_an_eighth_of_the_burst() -> None:
    fleet = Fleet(Rate(1000.0, 800.0), routers=1)
    router = fleet.routers[0]

    for _ in range(4):  # the third has 30 here; before the fourth, 90 were used in less than 0.1 s
        await router.draw(30)
        fleet.clock.now_s += 0.025
    assert fleet.store.leases == [(30, 30), (30, 60), (30, 100)]

    fleet.clock.now_s += 10.0
    await tidy([router])
    for _ in range(8):
        await router.draw(50)
    assert max(want for _, want in fleet.store.leases) == 100


async def test_more_is_leased_between_requests_so_that_none_of_a_steady_tenant_waits() -> None:
    fleet = Fleet(Rate(1000.0, 60_000.0))
    router, waited = fleet.routers[0], []
    for _ in range(100):  # of 0.1 s, with 10 requests of 4 units each
        for _ in range(10):
            asked = fleet.store.asked
            await router.draw(4)
            waited.append(fleet.store.asked > asked)
            fleet.clock.now_s += 0.01
        await tidy([router])

    assert sum(waited) <= 10
    assert not any(waited[300:])  # within three seconds its pace is known
    assert fleet.store.asked <= 2 * 10 + 10


async def test_a_few_requests_lie_ready_for_half_a_minute_and_then_go_back() -> None:
    fleet = Fleet(Rate(1.0, 1280.0), routers=4)
    router = fleet.routers[0]
    await router.draw(2)
    assert fleet.store.leases == [(2, 2 + 8)]  # four as large, of at most 1280 / 32 / 4 = 10

    for _ in range(15):
        fleet.clock.now_s += 2.0
        await tidy([router])
    assert router.has(8)
    assert fleet.store.asked == 1
    for _ in range(2):
        fleet.clock.now_s += 2.0
        await tidy([router])

    assert fleet.store.returned == [8]


@pytest.mark.parametrize("need, leased", [(3, 3 + 10), (10, 10 + 10), (11, 11)])
async def test_what_lies_ready_in_all_routers_is_a_thirty_second_of_the_burst_at_most(need: int, leased: int) -> None:
    fleet = Fleet(Rate(1.0, 1280.0), routers=4)

    await fleet.routers[0].draw(need)

    assert fleet.store.leases == [(need, leased)]


async def test_a_bucket_that_has_too_little_is_left_to_those_who_need_it() -> None:
    fleet = Fleet(Rate(0.001, 1280.0), routers=4)
    here, there = fleet.routers[:2]
    await here.draw(2)
    await there.draw(1262)  # leaves 1280 - 10 - 1262 = 8
    for _ in range(4):
        await here.draw(2)

    fleet.clock.now_s += 0.5
    await tidy([here])  # it lacks 8 at rest, and 5 x 2 for the next second

    assert not here.has(1)
    assert await there.draw(8) == 0


async def test_what_a_request_is_leasing_already_is_not_leased_again_between_requests() -> None:
    fleet = Fleet(Rate(1.0, 1280.0), routers=4)
    router = fleet.routers[0]
    for _ in range(5):
        await router.draw(2)
    fleet.store.held = asyncio.Event()

    drawing = asyncio.create_task(router.ready(2))
    await asyncio.sleep(0)
    tidying = asyncio.create_task(tidy([router]))
    for _ in range(3):
        await asyncio.sleep(0)
    fleet.store.held.set()
    await drawing
    await tidying

    assert fleet.store.leases == [(2, 2 + 8), (2, 2 + 10 + 8)]


async def test_what_is_hoped_for_is_leased_along_or_soon_if_it_is_little() -> None:
    fleet = Fleet(Rate(0.001, 1280.0), routers=4)
    here, there = fleet.routers[:2]

    assert await here.ready(2, hoped=10) == 0
    assert await there.ready(2, hoped=11) == 0
    assert fleet.store.leases == [(2, 2 + 10), (2, 2 + 8)]
    here.take(8)
    assert await here.ready(2, hoped=10) == 0  # 4 are here, and nobody waits for 6 more
    assert len(fleet.store.leases) == 2
    await tidy([here])

    assert fleet.store.leases[2:] == [(8 + 10 - 4, 8 + 10 - 4)]  # the next second's, and what lies ready


async def test_in_an_outage_what_is_here_stays_here() -> None:
    fleet = Fleet(Rate(8.0, 80.0))
    router = fleet.routers[0]
    await router.ready(30)
    fleet.store.is_down = True
    await router.draw(35)  # 5 of its share of 10, which fills at 1 a second
    router.put_back(20)

    for _ in range(2):
        fleet.clock.now_s += 2.0
        await tidy([router])

    assert router.has(20)


async def test_a_store_that_is_down_costs_what_was_to_go_back_and_refuses_nobody_for_what_is_only_hoped_for() -> None:
    fleet = Fleet(Rate(1.0, 1280.0), routers=4)
    router = fleet.routers[0]
    await router.ready(100)
    fleet.store.is_down = True
    for _ in range(2):
        fleet.clock.now_s += 2.0
        await tidy([router])

    assert not router.has(1)
    router.put_back(2)
    assert await router.ready(2, hoped=10) == 0


async def test_between_requests_nobody_minds_a_store_that_is_down() -> None:
    fleet = Fleet(Rate(1.0, 1280.0), routers=4)
    router = fleet.routers[0]
    for _ in range(5):
        await router.draw(2)
    fleet.store.is_down = True
    fleet.clock.now_s += 0.5

    await tidy([router])
    fleet.store.is_down = False
    fleet.clock.now_s += 1.0
    await tidy([router])

    assert router.has(8)
