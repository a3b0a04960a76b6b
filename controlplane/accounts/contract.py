"""What the accounts store promises: whatever was acknowledged outlives a crash, and nothing is counted twice."""

import math
from dataclasses import dataclass
from typing import Protocol

from ...directory.epochs import NameEpochs
from .tenant import Book, KeyRecord, PublicPrefix, Tenant

MAX_DEBT = 10  # bursts by which a bucket may fall below full: a wrong figure bars a tenant for a while, not for ever
GRAIN_S = 1e-6  # the clock's grain: units that come back within it are there

_LONGEST_S = 1e9  # to fill a bucket


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket's terms: units that come back a second, and how many it holds when full."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if not (0 < self.per_s < math.inf and 0 < self.burst < math.inf and self.burst / self.per_s <= _LONGEST_S):
            raise ValueError(f"a bucket fills, and within {_LONGEST_S:.0e} s; got {self}")


@dataclass(frozen=True, slots=True)
class Lease:
    """Units taken out of a bucket: at least those needed, or none."""

    units: float
    retry_s: float = 0.0  # where there are none: until those needed are there
    left: float = 0.0  # in the bucket, after this; 0 too where it owes


class Registry(Protocol):
    """Who may ask. Every implementation passes tests/controlplane/accounts/test_contract.py. Raises `AccountsDown`.

    A change that raises it may have been made; made again, it is the same.
    """

    async def revision(self) -> int:
        """Rises with every change; a store that was restored from a copy may be at a lower one."""
        ...

    async def read(self) -> Book:
        """All there is, as of one moment, without the records that this version cannot read."""
        ...

    async def put(self, tenant: Tenant) -> None:
        """Add a tenant, or change it."""
        ...

    async def add_key(self, key: KeyRecord) -> None:
        """Add a key, or change it. Raises `ConfigError` for a tenant that is not there, and for another one's key."""
        ...

    async def revoke(self, key_id: str) -> bool:
        """Forget the key whose digest begins so; False if there is none, `ConfigError` if there are several.

        A store that is full does it all the same.
        """
        ...


class Publishing(Protocol):
    """What tenants share on purpose; it is read with the registry, and raises its revision. Likewise."""

    async def publish(self, prefix: PublicPrefix) -> None:
        """Add a public prefix, or change it."""
        ...

    async def withdraw(self, name: str) -> bool:
        """Forget a public prefix; False if there is none of that name. A store that is full does it all the same."""
        ...


class Naming(Protocol):
    """The directory's name epochs, which no replica could tell again. Likewise, but `begin_epoch` is not repeatable."""

    async def epochs(self) -> NameEpochs: ...

    async def begin_epoch(self) -> NameEpochs:
        """Let the next one be present, and the one before end. Raises `ConfigError` while one is ending already."""
        ...

    async def end_epoch(self, present: int) -> None:
        """The one before has ended; nothing if `present` is not the present one."""
        ...


class Buckets(Protocol):
    """How much, across all routers. Likewise; but a lease that raises may have been taken, and is lost.

    A bucket is there, and full, without being made. All verbs raise `ValueError` for amounts and names out of bounds.
    """

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        """Take `want` units, or what is there if that is `need` or more, or none.

        In one step (GCRA), by the store's clock. More than the burst is never there: `retry_s` is then infinite.
        Terms may change: what a bucket lacked then takes as long to come back as it would have.
        """
        ...

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        """Return units that were not used, or, negative, take what was used beyond a lease.

        Never above the burst, and never more than `MAX_DEBT` bursts below it.
        """
        ...

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        """Hold up to `wanted` of `limit` places for a router, in place of what it held; gives how many it holds.

        A claim that is not renewed ends after its time.
        """
        ...
