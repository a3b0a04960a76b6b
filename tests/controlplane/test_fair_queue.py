"""Tenants take turns by what they cost: rounds worked out by hand, and bounds that hold for any."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kvplane.controlplane.errors import LimitReached, Overloaded, TimedOut
from kvplane.controlplane.fair_queue import POLL_S
from kvplane.tests.turns import FAR_S, QUANTUM, Scene, played


def test_with_room_and_nobody_waiting_a_turn_begins_at_once_and_is_not_charged() -> None:
    async def scene() -> tuple[str, str]:
        made = Scene()
        made.places.free = 3
        await made.ask("a", 10_000, times=3)
        await asyncio.sleep(0)
        at_once = made.served
        await made.ask("a", 50, times=2)
        await made.ask("b", 50, times=2)
        return at_once, await made.free() + await made.free()

    # Were the 30,000 tokens a debt, b would come first.
    assert played(scene()) == ("aaa", "aa")


def test_rounds_are_those_worked_out_by_hand() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 60, times=20)
        await made.ask("b", 60, weight=2.0, times=20)
        return "".join([await made.free() for _ in range(21)])

    # a's credit after each: 40 -20 | 80: 20 -40 | 60: 0 | 100: 40 -20
    # b's: 140 80 20 -40 | 160: 100 40 -20 | 180: 120 60 0 | 200: 140 80 20 -40
    assert played(scene()) == "aabbbbaabbbabbbaabbbb"


def test_until_it_is_charged_a_turn_costs_what_the_tenants_requests_are_expected_to() -> None:
    async def scene(at_once: int) -> str:
        made = Scene()
        await made.ask("a", 10, times=5)
        await made.ask("b", 10, times=5)
        return "".join([await made.free(at_once) for _ in range(2 // at_once)])

    # A quantum, as long as nothing is known: the first turn of two spends all that a has, until it is charged 10.
    assert (played(scene(1)), played(scene(2))) == ("aa", "ab")


def test_who_begins_to_wait_goes_before_all_that_did_already() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 60, times=20)
        await made.ask("b", 60, times=20)
        before = await made.free(1) + await made.free(1) + await made.free(1)
        await made.ask("c", 10, times=2)
        return before + "-" + await made.free() + await made.free() + await made.free()

    # b is as new as c, came first and has 40 left; a, of the rounds, has 80.
    assert played(scene()) == "aab-bcc"


def test_who_returns_for_every_turn_is_new_but_once() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 100, times=20)
        await made.free()
        for _ in range(4):
            await made.ask("b", 50)
            await made.free()
            await made.ask("b", 50)
            await made.free()
        return made.served

    # A quantum each in turn, though b asks for the next only when it has been served.
    assert played(scene()) == "abbabbabb"


def test_a_debt_is_paid_in_rounds_also_by_who_does_not_wait() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 550)
        await made.ask("b", 100, times=30)
        await made.free()
        for _ in range(3):
            await made.free()
        await made.ask("a", 40, times=30)
        return made.served + "-" + "".join([await made.free() for _ in range(6)])

    # a owes 450: b has five turns of a quantum until that is paid, three of them while a asks for nothing. Then a
    # has 50, which is two turns of 40, and in the next round 70.
    assert played(scene()) == "abbb-bbaaba"


def test_when_nobody_waits_debts_are_forgotten_and_rounds_begin_anew() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 10_000, times=2)
        await made.free(2)
        await made.ask("a", 100, times=6)
        await made.ask("b", 100, times=6)
        return "".join([await made.free() for _ in range(6)])

    assert played(scene()) == "ababab"


def test_nobody_overtakes_who_waits() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 10)
        made.places.free = 1
        await made.ask("b", 10)
        return made.served + await made.free(0) + await made.free()

    assert played(scene()) == "ab"


def test_a_prompt_that_is_cached_whole_still_costs_a_little() -> None:
    async def scene() -> str:
        made = Scene()
        await made.ask("a", 0, times=20)
        await made.ask("b", 100, times=20)
        return "".join([await made.free() for _ in range(6)])

    # Four times 32 is more than a quantum.
    assert played(scene()) == "aaaaba"


def test_debts_of_a_million_rounds_cost_no_time_and_keep_the_weights() -> None:
    async def scene() -> Counter[str]:
        made = Scene()
        await made.ask("a", 100_000, weight=0.0004, times=50)
        await made.ask("b", 100_000, weight=0.0001, times=50)
        return Counter("".join([await made.free() for _ in range(50)]))

    assert played(scene()) == {"a": 40, "b": 10}


def test_a_request_that_was_never_placed_costs_its_tenant_nothing() -> None:
    async def scene() -> tuple[str, int, int]:
        made = Scene()

        async def fail() -> None:
            async with made.queue.turn("a", 1.0, FAR_S):
                raise RuntimeError("nowhere")

        failing = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await made.ask("a", 100, times=2)
        await made.ask("b", 100, times=2)
        await made.free()
        await asyncio.wait([failing])
        assert isinstance(failing.exception(), RuntimeError)
        return await made.free(), made.places.taken, made.places.told

    assert played(scene()) == ("a", 2, 2)


def test_a_tenant_may_wait_with_as_many_as_it_leaves_free_and_all_together_with_no_more_than_there_are() -> None:
    async def refused(made: Scene, tenant: str) -> type[BaseException] | None:
        await made.ask(tenant, 10)
        exc = made.tasks[-1].exception() if made.tasks[-1].done() else None
        return None if exc is None else type(exc)

    async def scene() -> list[type[BaseException] | None]:
        made = Scene(max_waiting=4)
        return [await refused(made, tenant) for tenant in "aaabbcd"]

    assert played(scene()) == [None, None, LimitReached, None, LimitReached, None, Overloaded]


def test_the_deadline_ends_the_wait_and_leaves_no_trace() -> None:
    async def scene() -> tuple[type[BaseException], float, int, str]:
        made = Scene()
        await made.ask("a", 10, wait_s=1.5)
        await made.ask("b", 10)
        await asyncio.wait([made.tasks[0]])
        assert isinstance(made.tasks[0].exception(), TimedOut)
        return TimedOut, made.clock(), made.queue.waiting, await made.free()

    assert played(scene()) == (TimedOut, 1.5, 1, "b")


def test_who_leaves_the_queue_takes_no_place_along() -> None:
    async def scene(granted: bool) -> tuple[str, int, int]:
        made = Scene()
        await made.ask("a", 10)
        await made.ask("b", 10)
        made.places.free = 1
        if granted:
            made.queue._serve()  # as another's end would, in the very step of the loop that cancels
        made.tasks[0].cancel()
        if not granted:
            made.queue._serve()
        await asyncio.wait([made.tasks[0]])
        made.places.free += 2 - made.places.taken
        await asyncio.sleep(2 * POLL_S)
        return made.served, made.queue.active, made.places.taken - made.places.told

    assert played(scene(granted=True)) == ("b", 0, 0)
    assert played(scene(granted=False)) == ("b", 0, 0)


def test_what_tenants_are_expected_to_cost_is_forgotten_before_it_fills_the_memory() -> None:
    async def scene() -> int:
        made = Scene()
        for number in range(10_000):
            made.queue.turn(f"t{number}", 1.0, FAR_S)
        return len(made.queue._tenants)

    assert played(scene()) <= 4096


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(st.sampled_from([0.5, 1.0, 3.0, 4.0]), st.sampled_from([0.5, 1.0, 2.0])),
    costs=st.lists(st.integers(32, 700), min_size=20, max_size=60),
)
def test_two_that_always_wait_differ_by_less_than_a_quantum_and_a_request(
    weights: tuple[float, float], costs: list[int]
) -> None:
    async def scene() -> float:
        made = Scene()
        a, b = weights
        for cost in costs:
            await made.ask("a", cost, a)
            await made.ask("b", cost, b)
        await made.ask("a", 32, a, len(costs))  # neither comes to its end
        await made.ask("b", 32, b, len(costs))
        coming = {tenant: iter(costs) for tenant in "ab"}
        tokens, worst = {"a": 0, "b": 0}, 0.0
        for _ in costs:
            tenant = await made.free()
            tokens[tenant] += next(coming[tenant])
            worst = max(worst, abs(tokens["a"] / a - tokens["b"] / b))
        return worst

    assert played(scene()) <= QUANTUM + max(costs) / min(weights)


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.integers(32, 700), min_size=1, max_size=40),
    tenants=st.lists(st.sampled_from("abc"), min_size=40, max_size=40),
    freed=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    left=st.sets(st.integers(0, 39), max_size=10),
)
def test_every_place_is_used_while_anybody_waits_and_everybody_is_served_once(
    costs: list[int], tenants: list[str], freed: list[int], left: set[int]
) -> None:
    async def scene() -> None:
        made = Scene()
        for cost, tenant in zip(costs, tenants, strict=False):
            await made.ask(tenant, cost)
        for number in left & set(range(len(costs))):
            made.tasks[number].cancel()
        waiting = len(costs) - len(left & set(range(len(costs))))
        for places in freed:
            served = await made.free(places)
            assert len(served) == min(places + made.places.free, waiting) or waiting == 0
            waiting -= len(served)
        assert (made.queue.waiting, made.queue.active) == (waiting, 0)
        assert made.places.taken == made.places.told == len(made.served)

    played(scene())
