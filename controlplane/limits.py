"""What a tenant may ask: requests and tokens a minute, and requests at the same time."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .accounts import Buckets, Caller, Rate, Rules, Tenant
from .allowance import Allowance
from .errors import BadRequest, LimitReached
from .places import Places
from .tidying import Part, tidy

_MINUTE_S = 60.0
_OF_REQUESTS, _OF_TOKENS = (
    (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}")
    for what in ("requests", "tokens")
)


class RequestLimits:
    """One per router. A tenant without limits costs a look-up."""

    def __init__(
        self,
        buckets: Buckets,
        router: str,
        routers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = buckets
        self._router = router
        self._routers = routers
        self._clock = clock
        self._known: dict[str, _Limits] = {}

    async def admit(self, caller: Caller, tokens: int) -> "Admission":
        """Let in a request of so many tokens, those it may generate counted; to be closed when it ends.

        Raises `LimitReached`, having taken nothing, and `BadRequest` for more tokens than the limit will ever allow.
        """
        limits = self._of(caller.tenant)
        await _draw(caller.tenant, limits, tokens)
        return Admission(limits, tokens)

    def admit_at_once(self, caller: Caller, tokens: int) -> "Admission | None":
        """Let in a request if all that it takes is here; None, and nothing taken, if not."""
        limits = self._of(caller.tenant)
        requests, of_tokens, places = limits.requests, limits.tokens, limits.places
        if requests is not None and not requests.has(1):
            return None
        if of_tokens is not None and not of_tokens.has(tokens):
            return None
        if places is not None:
            if not places.has_one:
                return None
            places.take_one()
        if requests is not None:
            requests.take(1)
        if of_tokens is not None:
            of_tokens.take(tokens)
        return Admission(limits, tokens)

    async def lease(self, caller: Caller, tokens: int) -> None:
        """Bring what `admit` takes and is not here, of all limits at the same time; nothing if it is to be refused."""
        limits = self._of(caller.tenant)
        requests, of_tokens, places = limits.requests, limits.tokens, limits.places
        if of_tokens is not None and tokens > of_tokens.rate.burst:
            return
        if requests is not None and requests.is_known_to_lack(1):
            return
        async with asyncio.TaskGroup() as trips:
            if requests is not None and not requests.has(1):
                trips.create_task(requests.ready(1))
            if of_tokens is not None and not of_tokens.has(tokens):
                trips.create_task(of_tokens.ready(tokens))
            if places is not None and not places.has_one:
                trips.create_task(places.ready())

    def headers(self, caller: Caller) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*`, as far as this router knows; for answers and refusals alike."""
        limits = self._of(caller.tenant)
        return _headers(((limits.requests, _OF_REQUESTS), (limits.tokens, _OF_TOKENS)))

    async def tidy(self) -> None:
        """Keep in hand what is used, and give back what lies idle; to be called a few times a second."""
        await tidy(part for limits in self._known.values() for part in limits.parts)

    def _of(self, tenant: Tenant) -> "_Limits":
        name = tenant.name
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Limits(Rules())
        if known.rules is not tenant.rules:
            self._apply(tenant, known)
        return known

    def _apply(self, tenant: Tenant, known: "_Limits") -> None:
        rules = known.rules = tenant.rules
        known.requests = self._allowance(known.requests, f"{tenant.name}:requests", rules.requests_per_minute)
        known.tokens = self._allowance(known.tokens, f"{tenant.name}:tokens", rules.tokens_per_minute)
        if rules.concurrency is None:
            known.places = None
        elif known.places is None:
            name = f"{tenant.name}:places"
            known.places = Places(name, rules.concurrency, self._router, self._buckets, self._routers, self._clock)
        else:
            known.places.limit = rules.concurrency

    def _allowance(self, known: Allowance | None, bucket: str, per_minute: int | None) -> Allowance | None:
        if per_minute is None:
            return None
        rate = Rate(per_minute / _MINUTE_S, per_minute)
        if known is None:
            return Allowance(bucket, rate, self._buckets, self._routers, self._clock)
        known.rate = rate
        return known


class Admission:
    """A request that was let in, until it ends."""

    def __init__(self, limits: "_Limits", tokens: int) -> None:
        self._tokens, self._charged = limits.tokens, tokens
        self._places = limits.places

    def settle(self, tokens: int) -> None:
        """What the request came to; the rest of what it might have generated is given back. Only the first counts."""
        if self._tokens is not None:
            self._tokens.put_back(self._charged - tokens)
            self._tokens = None

    async def close(self) -> None:
        """The request has ended, settled or not. Only the first counts."""
        places, self._places = self._places, None
        if places is not None:
            await places.leave()


@dataclass(slots=True)
class _Limits:
    """A tenant's, as its rules were when it last asked."""

    rules: Rules
    requests: Allowance | None = None
    tokens: Allowance | None = None
    places: Places | None = None

    @property
    def parts(self) -> Iterator[Part]:
        for part in (self.requests, self.tokens, self.places):
            if part is not None:
                yield part


async def _draw(tenant: Tenant, limits: _Limits, tokens: int) -> None:
    """All that a request needs, or nothing. Places come last, for to free one is a round trip."""
    requests, of_tokens, places = limits.requests, limits.tokens, limits.places
    if of_tokens is not None and tokens > of_tokens.rate.burst:
        raise _too_long(tenant, of_tokens, tokens)
    if requests is not None and (retry_s := await requests.draw(1)):
        raise _reached(f"{_per_minute(requests)} requests per minute", tenant, retry_s)
    drawn = 0
    try:
        if of_tokens is not None:
            if retry_s := await of_tokens.draw(tokens):
                limit = f"{_per_minute(of_tokens)} tokens per minute, of which this request may take {tokens}"
                raise _reached(limit, tenant, retry_s)
            drawn = tokens
        if places is not None and not await places.take():
            raise _reached(f"{places.limit} requests at the same time", tenant, 1.0)
    except BaseException:
        if of_tokens is not None:
            of_tokens.put_back(drawn)
        if requests is not None:
            requests.put_back(1)
        raise


def _reached(limit: str, tenant: Tenant, retry_s: float) -> LimitReached:
    retry_after_s = max(1, math.ceil(retry_s))
    return LimitReached(
        f"rate limit reached for {tenant.name}: {limit}; try again in {retry_after_s} s",
        "rate_limit_exceeded",
        retry_after_s,
    )


def _too_long(tenant: Tenant, of_tokens: Allowance, tokens: int) -> BadRequest:
    return BadRequest(
        f"{tenant.name} has {_per_minute(of_tokens)} tokens per minute and this request may take {tokens}, "
        "those it may generate counted: shorten the prompt or set max_tokens lower",
        code="tokens_above_limit",
    )


def _per_minute(allowance: Allowance) -> int:
    return round(allowance.rate.burst)


def _headers(of: Sequence[tuple[Allowance | None, tuple[str, str, str]]]) -> dict[str, str]:
    headers = {}
    for allowance, (limit, remaining, reset) in of:
        if allowance is not None:
            left, rate = allowance.left, allowance.rate
            headers[limit] = str(_per_minute(allowance))
            headers[remaining] = str(math.floor(left + 1e-6))
            headers[reset] = _span((rate.burst - left) / rate.per_s)
    return headers


def _span(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 1.2s, 6m0s."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"
