"""No more requests run at the same time than a tenant may have, and a place that is free is found."""

import pytest

from kvplane.controlplane.breaker import Breaker
from kvplane.controlplane.places import Places
from kvplane.controlplane.tidying import tidy
from kvplane.tests.stores import Clock, Store


class Fleet:
    """Routers before one store."""

    def __init__(self, limit: int, routers: int = 2) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        breaker = Breaker(self.store, self.clock)
        self.routers = [
            Places("acme", limit, f"r{number}", breaker, lambda: routers, self.clock) for number in range(routers)
        ]


async def test_one_place_goes_from_router_to_router() -> None:
    fleet = Fleet(limit=1)
    here, there = fleet.routers

    for _ in range(3):
        assert await here.take()
        assert not await there.take()
        await here.leave()
        assert await there.take()
        assert not await here.take()
        await there.leave()


async def test_of_a_large_limit_a_few_places_are_held_ready() -> None:
    fleet = Fleet(limit=192)  # three in each router: 192 / 32 / 2
    here = fleet.routers[0]

    assert [await here.take() for _ in range(3)] == [True] * 3
    assert fleet.store.asked == 1
    for _ in range(2):
        await here.leave()
    assert await here.take()
    assert await here.take()
    assert fleet.store.asked == 1
    assert await here.take()
    assert fleet.store.asked == 2


async def test_of_a_small_limit_places_that_nobody_used_since_the_last_time_are_given_up() -> None:
    fleet = Fleet(limit=60)
    here, there = fleet.routers
    await here.ready()
    assert [await there.take() for _ in range(60)] == [True] * 59 + [False]

    await tidy([here])

    assert await there.take()


async def test_of_a_large_limit_what_was_used_for_a_second_is_given_up_after_it_but_for_a_few() -> None:
    fleet = Fleet(limit=128)
    here, there = fleet.routers
    await tidy([here])
    for _ in range(10):
        await here.take()
    for _ in range(10):
        await here.leave()
    for _ in range(2):
        fleet.clock.now_s += 0.1
        await tidy([here])
    assert [await there.take() for _ in range(119)] == [True] * 118 + [False]

    for _ in range(2):
        fleet.clock.now_s += 1.0
        await tidy([here])

    assert [await there.take() for _ in range(10)] == [True] * 8 + [False] * 2


async def test_of_a_large_limit_that_was_reached_what_is_free_can_be_had_elsewhere_at_once_but_for_a_few() -> None:
    fleet = Fleet(limit=128)  # two are held ready, four at times
    here, there = fleet.routers
    for _ in range(100):
        await there.take()
    assert [await here.take() for _ in range(29)] == [True] * 28 + [False]
    asked = fleet.store.asked
    await tidy([here])
    assert fleet.store.asked == asked  # nothing is claimed ahead where there is nothing

    for _ in range(28):  # with every fifth, then every third, three go
        await here.leave()

    assert [await there.take() for _ in range(25)] == [True] * 24 + [False]


async def test_places_are_claimed_before_they_are_wanted() -> None:
    fleet = Fleet(limit=256)  # four in each router
    here = fleet.routers[0]
    for _ in range(3):
        await here.take()
    assert fleet.store.asked == 1

    await tidy([here])

    assert fleet.store.asked == 2
    assert [await here.take() for _ in range(4)] == [True] * 4
    assert fleet.store.asked == 2


async def test_a_claim_of_which_nothing_is_used_ends_by_itself_and_is_not_trusted_to_its_end() -> None:
    fleet = Fleet(limit=64)
    here, there = fleet.routers
    await here.take()
    await here.leave()
    for _ in range(13):
        fleet.clock.now_s += 0.5
        await tidy([here])
    assert await here.take()
    assert fleet.store.asked == 1
    await here.leave()
    fleet.clock.now_s += 0.5  # two thirds of its ten seconds are over
    assert await here.take()
    assert fleet.store.asked == 2

    await here.leave()
    for _ in range(21):
        fleet.clock.now_s += 0.5
        await tidy([here])

    assert fleet.store.asked == 2
    assert [await there.take() for _ in range(64)] == [True] * 64


async def test_a_claim_is_renewed_before_it_ends_while_requests_run() -> None:
    fleet = Fleet(limit=1)
    here, there = fleet.routers
    await here.take()

    for _ in range(100):
        fleet.clock.now_s += 0.5
        await tidy([here])

    assert not await there.take()
    assert fleet.store.asked <= 1 + 100 / 6 + 1
    fleet.clock.now_s += 10.1  # a router that ended renews nothing
    assert await there.take()


async def test_a_smaller_limit_holds_for_those_who_come_after_it() -> None:
    fleet = Fleet(limit=3, routers=1)
    here = fleet.routers[0]
    for _ in range(3):
        await here.take()

    here.limit = 2
    await here.leave()
    assert not await here.take()
    await here.leave()

    assert await here.take()


@pytest.mark.parametrize("limit, expected", [(1, 1), (8, 4)])
async def test_out_of_reach_of_the_store_a_router_has_its_share_and_one_place_at_least(
    limit: int, expected: int
) -> None:
    fleet = Fleet(limit)
    here = fleet.routers[0]
    fleet.store.is_down = True

    taken = [await here.take() for _ in range(limit + 1)]

    assert sum(taken) == expected
    await here.leave()
    assert await here.take()


async def test_after_an_outage_the_store_has_the_say_again() -> None:
    fleet = Fleet(limit=8)
    here, there = fleet.routers
    for _ in range(6):
        await there.take()
    fleet.store.is_down = True
    for _ in range(3):
        await here.take()
    fleet.store.is_down = False
    fleet.clock.now_s += 4.0

    await tidy([here])
    await here.leave()

    assert not await here.take()
