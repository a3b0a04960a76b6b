"""Accounts of one process: for simulations and tests, and to say plainly what those in Redis do in scripts."""

import math
from collections import defaultdict
from collections.abc import Callable

from ...directory.epochs import NameEpochs
from .contract import GRAIN_S, MAX_DEBT, Lease, Rate
from .refusals import (
    anothers_key,
    check_claim,
    check_key_id,
    check_lease,
    check_units,
    epoch_ends_still,
    no_such_tenant,
    several_keys,
)
from .tenant import Book, KeyRecord, PublicPrefix, Tenant


class MemoryAccounts:
    """A registry and buckets. No verb awaits anything, so each is one step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._revision = 0
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._public: dict[str, PublicPrefix] = {}
        self._epochs = NameEpochs()
        self._full_at: dict[str, float] = {}  # when a bucket will be full; one that is not here is
        self._claims = defaultdict[str, dict[str, tuple[int, float]]](dict)  # name -> router -> (places, end)

    async def revision(self) -> int:
        return self._revision

    async def read(self) -> Book:
        return Book(self._revision, dict(self._tenants), dict(self._keys), dict(self._public))

    async def put(self, tenant: Tenant) -> None:
        self._tenants[tenant.name] = tenant
        self._revision += 1

    async def add_key(self, key: KeyRecord) -> None:
        if key.tenant not in self._tenants:
            raise no_such_tenant(key)
        if self._keys.get(key.digest, key).tenant != key.tenant:
            raise anothers_key(key)
        self._keys[key.digest] = key
        self._revision += 1

    async def revoke(self, key_id: str) -> bool:
        check_key_id(key_id)
        found = [digest for digest in self._keys if digest.startswith(key_id)]
        if len(found) > 1:
            raise several_keys(key_id, len(found))
        for digest in found:
            del self._keys[digest]
            self._revision += 1
        return bool(found)

    async def publish(self, prefix: PublicPrefix) -> None:
        self._public[prefix.name] = prefix
        self._revision += 1

    async def withdraw(self, name: str) -> bool:
        found = self._public.pop(name, None) is not None
        self._revision += found
        return found

    async def epochs(self) -> NameEpochs:
        return self._epochs

    async def begin_epoch(self) -> NameEpochs:
        if self._epochs.ending is not None:
            raise epoch_ends_still()
        self._epochs = NameEpochs(self._epochs.present + 1, self._epochs.present)
        return self._epochs

    async def end_epoch(self, present: int) -> None:
        if self._epochs.present == present:
            self._epochs = NameEpochs(present)

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        check_lease(bucket, need, want)
        now = self._clock()
        lacking_s = self._lacking_s(bucket, rate, now)
        there = rate.burst - lacking_s * rate.per_s
        if need > rate.burst:
            return Lease(0.0, math.inf, max(there, 0.0))
        if there < need - GRAIN_S * rate.per_s:
            return Lease(0.0, (need - there) / rate.per_s, max(there, 0.0))
        units = min(want, max(there, need))
        self._full_at[bucket] = now + lacking_s + units / rate.per_s
        return Lease(units, 0.0, max(there - units, 0.0))

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        check_units(bucket, units)
        now = self._clock()
        self._full_at[bucket] = now + _bounded(rate, self._lacking_s(bucket, rate, now) - units / rate.per_s)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        check_claim(name, router, wanted, ttl_s)
        now = self._clock()
        others = {who: claim for who, claim in self._claims[name].items() if claim[1] > now and who != router}
        held = max(0, min(wanted, limit - sum(places for places, _ in others.values())))
        self._claims[name] = others | ({router: (held, now + ttl_s)} if held else {})
        return held

    def _lacking_s(self, bucket: str, rate: Rate, now: float) -> float:
        """How long until a bucket is full."""
        return _bounded(rate, self._full_at.get(bucket, now) - now)


def _bounded(rate: Rate, lacking_s: float) -> float:
    """Not fuller than full, and no further below full than it may be: a clock set back would make it so."""
    return min(max(lacking_s, 0.0), MAX_DEBT * rate.burst / rate.per_s)
