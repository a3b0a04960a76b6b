"""Each limit refuses what is above it, says so in OpenAI's words, and takes nothing for what it refused."""

import asyncio
from typing import Any

import pytest

from kvplane.controlplane.accounts import Caller, Rules, Tenant
from kvplane.controlplane.breaker import Breaker
from kvplane.controlplane.errors import BadRequest, LimitReached
from kvplane.controlplane.limits import RequestLimits
from kvplane.directory import Domain
from kvplane.tests.stores import Clock, Store


class Router:
    """One router's limits, by a clock that stands still."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        self.limits = RequestLimits(Breaker(self.store, self.clock), "r1", lambda: 2, self.clock)


def caller(**rules: Any) -> Caller:  # as pydantic takes them
    tenant = Tenant(organisation="acme", rules=Rules(**rules))
    return Caller(tenant, Domain("acme", "default"))


async def test_a_tenant_without_limits_asks_nobody() -> None:
    router, acme = Router(), caller()

    admission = await router.limits.admit(acme, 10**9)
    admission.settle(5)
    await admission.close()

    assert router.limits.headers(acme) == {}
    assert router.store.asked == 0


async def test_requests_above_the_limit_are_told_which_it_is_and_when_to_come_back() -> None:
    router, acme = Router(), caller(requests_per_minute=3)
    for _ in range(3):
        await router.limits.admit(acme, 10)

    with pytest.raises(LimitReached) as caught:
        await router.limits.admit(acme, 10)
    assert caught.value.message == "rate limit reached for acme/default: 3 requests per minute; try again in 20 s"
    assert (caught.value.code, caught.value.retry_after_s) == ("rate_limit_exceeded", 20)

    router.clock.now_s += 19.5
    with pytest.raises(LimitReached, match="try again in 1 s"):
        await router.limits.admit(acme, 10)
    router.clock.now_s += 0.5
    await router.limits.admit(acme, 10)


async def test_tokens_that_were_not_generated_are_given_back_once() -> None:
    router, acme = Router(), caller(tokens_per_minute=1000)
    admission = await router.limits.admit(acme, 900)
    with pytest.raises(LimitReached, match="1000 tokens per minute, of which this request may take 300"):
        await router.limits.admit(acme, 300)

    admission.settle(200)
    admission.settle(0)

    assert router.limits.headers(acme)["x-ratelimit-remaining-tokens"] == "800"
    await router.limits.admit(acme, 800)
    with pytest.raises(LimitReached):
        await router.limits.admit(acme, 1)


async def test_more_tokens_than_a_minute_has_are_a_bad_request_and_not_an_endless_429() -> None:
    router, acme = Router(), caller(requests_per_minute=10, tokens_per_minute=1000)

    await router.limits.lease(acme, 1001)
    with pytest.raises(BadRequest, match="1000 tokens per minute and this request may take 1001"):
        await router.limits.admit(acme, 1001)
    assert router.store.asked == 0
    await router.limits.admit(acme, 1000)


async def test_a_request_that_one_limit_refuses_costs_the_others_nothing() -> None:
    router, acme = Router(), caller(requests_per_minute=10, tokens_per_minute=1000, concurrency=1)
    await router.limits.admit(acme, 100)

    with pytest.raises(LimitReached, match="1 requests at the same time; try again in 1 s"):
        await router.limits.admit(acme, 100)
    with pytest.raises(LimitReached, match="tokens per minute"):
        await router.limits.admit(acme, 950)

    headers = router.limits.headers(acme)
    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-remaining-tokens"]) == ("9", "900")


async def test_all_that_is_not_here_is_asked_for_at_the_same_time() -> None:
    router, acme = Router(), caller(requests_per_minute=10, tokens_per_minute=1000, concurrency=2)
    router.store.held = asyncio.Event()

    waiting = asyncio.create_task(router.limits.lease(acme, 100))
    await _until(lambda: router.store.asked == 3)
    router.store.held.set()
    await waiting

    assert router.limits.admit_at_once(acme, 100) is not None


async def test_at_once_a_request_takes_all_that_it_needs_or_nothing() -> None:
    router, acme = Router(), caller(requests_per_minute=1000, tokens_per_minute=10_000, concurrency=1)
    await router.limits.lease(acme, 100)  # and 156 tokens to lie ready

    refused = router.limits.admit_at_once(acme, 300)
    admission = router.limits.admit_at_once(acme, 100)
    another = router.limits.admit_at_once(acme, 100)

    assert (refused, another) == (None, None)
    assert admission is not None
    headers = router.limits.headers(acme)
    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-remaining-tokens"]) == ("999", "9900")


async def test_at_once_no_more_requests_are_let_in_than_are_here() -> None:
    router, acme = Router(), caller(requests_per_minute=2)
    await router.limits.lease(acme, 1)

    admitted = [router.limits.admit_at_once(acme, 1) is not None for _ in range(2)]

    assert admitted == [True, False]


async def test_a_tenant_that_is_known_to_be_above_one_limit_takes_nothing_of_the_others() -> None:
    router, acme = Router(), caller(requests_per_minute=1, tokens_per_minute=1000, concurrency=64)
    await router.limits.admit(acme, 10)
    for _ in range(2):
        with pytest.raises(LimitReached, match="1 requests per minute"):
            await router.limits.admit(acme, 10)
    asked = router.store.asked

    await router.limits.lease(acme, 900)
    with pytest.raises(LimitReached, match="1 requests per minute"):
        await router.limits.admit(acme, 900)

    assert router.store.asked == asked


async def test_a_client_that_leaves_while_it_waits_takes_nothing_along() -> None:
    router, acme = Router(), caller(tokens_per_minute=1000, concurrency=1)
    await (await router.limits.admit(acme, 400)).close()
    router.store.held = asyncio.Event()
    waiting = asyncio.create_task(_admit(router, acme, 600))
    await asyncio.sleep(0)
    router.store.held.set()
    router.store.held = asyncio.Event()
    await _until(lambda: router.store.asked == 5)  # tokens and place, its release; tokens, and it waits for a place

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert router.limits.headers(acme)["x-ratelimit-remaining-tokens"] == "600"


async def test_a_place_is_free_when_its_request_is_closed_and_no_earlier() -> None:
    router, acme = Router(), caller(concurrency=2)
    first, _ = [await router.limits.admit(acme, 1) for _ in range(2)]
    first.settle(1)

    with pytest.raises(LimitReached):
        await router.limits.admit(acme, 1)
    await first.close()
    await first.close()
    await router.limits.admit(acme, 1)
    with pytest.raises(LimitReached):
        await router.limits.admit(acme, 1)


async def test_headers_say_what_is_left_and_when_all_is_back() -> None:
    router, acme = Router(), caller(requests_per_minute=600, tokens_per_minute=6000)
    for _ in range(2):
        await router.limits.admit(acme, 1500)
    await router.limits.admit(acme, 60)

    assert router.limits.headers(acme) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "597",
        "x-ratelimit-reset-requests": "300ms",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "2940",
        "x-ratelimit-reset-tokens": "30.6s",
    }
    router.clock.now_s += 1.0
    assert router.limits.headers(acme)["x-ratelimit-remaining-requests"] == "600"


async def test_rules_that_change_count_from_the_next_request_and_places_stay_taken() -> None:
    router = Router()
    await router.limits.admit(caller(requests_per_minute=100, concurrency=2), 1)

    with pytest.raises(LimitReached, match="1 requests at the same time"):
        await router.limits.admit(caller(requests_per_minute=60, concurrency=1), 1)

    assert router.limits.headers(caller(requests_per_minute=60))["x-ratelimit-limit-requests"] == "60"
    assert router.limits.headers(caller()) == {}


async def test_idle_leases_go_back_and_claims_are_renewed() -> None:
    router, acme = Router(), caller(tokens_per_minute=1000, concurrency=1)
    admission = await router.limits.admit(acme, 500)
    admission.settle(100)

    for _ in range(60):
        router.clock.now_s += 0.25
        await router.limits.tidy()

    assert router.store.returned == [400]
    assert await router.store.claim("acme/default:places", "r2", 1, 1, 10.0) == 0


async def _admit(router: Router, acme: Caller, tokens: int) -> None:
    await router.limits.admit(acme, tokens)


async def _until(true: Any) -> None:
    for _ in range(100):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
