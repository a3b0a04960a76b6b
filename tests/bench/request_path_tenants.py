"""A thousand tenants and what they send: a book of keys without rules and one with all limits, in a real store."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from kvplane.controlplane.accounts import BookReader, Buckets, Lease, Rate, Registry, Rules, Tenant, record_of
from kvplane.controlplane.accounts.settings import AccountsSettings, open_accounts
from kvplane.directory import EmbeddedStore

TENANTS = 1000

_SKEW = 1.5  # of Zipf's law: the busiest 29 of a thousand send nine requests in ten
_USERS = 4  # of each tenant, who share no cache
_BUSIEST = 0.64  # of all that is sent is more than any tenant sends
_WAITS_S = 1.0  # at most, for a store that is slow
_PUT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all tenants send together: so many requests a second, each of so much at most, each for so long."""

    requests_per_s: float
    tokens: int
    blocks: int
    lasts_s: float

    @property
    def rules(self) -> Rules:
        """Every limit there is, of which none refuses anybody."""
        per_minute = math.ceil(60 * _BUSIEST * self.requests_per_s)
        return Rules(
            requests_per_minute=per_minute,
            tokens_per_minute=per_minute * self.tokens,
            concurrency=math.ceil(_BUSIEST * self.requests_per_s * (self.lasts_s + _WAITS_S)),
            write_blocks_per_minute=per_minute * self.blocks,
            resident_share=0.5,
            subdivide_by="user",
        )


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a request: the key it comes with, and the user it names."""

    key: str
    user: str


@dataclass(frozen=True, slots=True)
class Accounts:
    """The store, and what a router would have read of it."""

    buckets: "CountedBuckets"
    without_rules: BookReader
    limited: BookReader


class CountedBuckets:
    """Counts round trips by the task that is at the root of those that make them."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._trips = Counter[asyncio.Task[object] | None]()
        self._root: ContextVar[asyncio.Task[object] | None] = ContextVar("root", default=None)

    @property
    def trips(self) -> int:
        """All of this task's, and from now on of those that it starts."""
        if self._root.get() is None:
            self._root.set(asyncio.current_task())
        return self._trips[self._root.get()]

    def trips_of(self, task: asyncio.Task[None]) -> int:
        """All of another one's."""
        return self._trips[task]

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        self._count()
        return await self._buckets.lease(bucket, rate, need, want)

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        self._count()
        await self._buckets.give_back(bucket, rate, units)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        self._count()
        return await self._buckets.claim(name, router, wanted, limit, ttl_s)

    def _count(self) -> None:
        self._trips[self._root.get() or asyncio.current_task()] += 1


@asynccontextmanager
async def open_tenants(rules: Rules, disk: Path | None) -> AsyncIterator[Accounts]:
    """A store that has on disk what it acknowledges, and two who read all tenants, one before they have rules."""
    with TemporaryDirectory(prefix="kvplane-bench-", dir=disk) as folder:
        async with EmbeddedStore(Path(folder)) as store, open_accounts(store.url, AccountsSettings()) as accounts:
            without_rules, limited = BookReader(accounts), BookReader(accounts)
            await _put(accounts, Rules())
            await without_rules.look()
            await _put(accounts, rules)
            await limited.look()
            yield Accounts(CountedBuckets(accounts), without_rules, limited)


def senders(count: int, seed: int = 1) -> Sequence[Sender]:
    """Who sends the next requests, tenants by Zipf's law."""
    random, weights = Random(seed), [rank**-_SKEW for rank in range(1, TENANTS + 1)]
    tenants = random.choices(range(TENANTS), cum_weights=list(accumulate(weights)), k=count)
    return [Sender(_key(tenant), f"user-{random.randrange(_USERS)}") for tenant in tenants]


async def _put(registry: Registry, rules: Rules) -> None:
    for first in range(0, TENANTS, _PUT_AT_ONCE):
        await asyncio.gather(*(_put_one(registry, number, rules) for number in range(first, first + _PUT_AT_ONCE)))


async def _put_one(registry: Registry, number: int, rules: Rules) -> None:
    tenant = Tenant(organisation=f"tenant-{number}", rules=rules)
    await registry.put(tenant)
    await registry.add_key(record_of(_key(number), tenant))


def _key(tenant: int) -> str:
    return f"sk-tenant-{tenant}-{tenant:032x}"
