"""A store that hangs costs one wait, not one a request; and it is found again."""

import asyncio

import pytest

from kvplane.controlplane.accounts import Rate
from kvplane.controlplane.breaker import Breaker
from kvplane.controlplane.errors import AccountsDown
from kvplane.tests.stores import Clock, Store

RATE = Rate(1.0, 10.0)


async def test_a_store_that_answers_is_asked_each_time() -> None:
    clock = Clock()
    store = Store(clock)
    breaker = Breaker(store, clock)

    lease = await breaker.lease("b", RATE, 4, 4)
    await breaker.give_back("b", RATE, 1)

    assert (lease.units, lease.left) == (4, 6)
    assert await breaker.claim("c", "r1", 3, 2, 10.0) == 2
    assert (store.asked, breaker.is_open) == (3, False)


@pytest.mark.parametrize("how", ["is_down", "hangs"])
async def test_a_store_out_of_reach_is_tried_once_a_second_and_found_again(how: str) -> None:
    clock = Clock()
    store = Store(clock)
    breaker = Breaker(store, clock, patience_s=0.001)
    setattr(store, how, True)

    for now_s in (1000.0, 1000.5, 1000.9, 1001.0, 1001.5, 1002.1):
        clock.now_s = now_s
        with pytest.raises(AccountsDown):
            await breaker.lease("b", RATE, 1, 1)
    assert (store.asked, breaker.is_open) == (3, True)

    setattr(store, how, False)
    clock.now_s = 1003.2
    await breaker.lease("b", RATE, 1, 1)
    await breaker.lease("b", RATE, 1, 1)
    assert (store.asked, breaker.is_open) == (5, False)


async def test_while_one_request_tries_the_store_no_other_waits_for_it() -> None:
    clock = Clock()
    store = Store(clock)
    breaker = Breaker(store, clock, patience_s=60.0)
    store.is_down = True
    with pytest.raises(AccountsDown):
        await breaker.lease("b", RATE, 1, 1)
    clock.now_s += 1.0
    store.is_down, store.held = False, asyncio.Event()
    trying = asyncio.create_task(breaker.lease("b", RATE, 1, 1))
    await asyncio.sleep(0)

    with pytest.raises(AccountsDown, match="tried again"):
        await breaker.claim("c", "r1", 1, 1, 10.0)
    store.held.set()
    assert ((await trying).units, store.asked) == (1, 2)
