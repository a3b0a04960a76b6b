"""What the accounts store promises: whatever was acknowledged outlives a crash, and nothing is counted twice."""

from dataclasses import dataclass
from typing import Protocol

from .tenant import Book, KeyRecord, Tenant


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket's terms: units that come back a second, and how many it holds when full."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Units taken out of a bucket: at least those needed, or none."""

    units: float
    retry_s: float = 0.0  # where there are none: until those needed are there
    left: float = 0.0  # in the bucket, after this


class Registry(Protocol):
    """Who may ask. Every implementation passes tests/controlplane/accounts/test_contract.py. Raises `AccountsDown`."""

    async def revision(self) -> int:
        """Rises with every change."""
        ...

    async def read(self) -> Book: ...

    async def put(self, tenant: Tenant) -> None:
        """Add a tenant, or change it."""
        ...

    async def add_key(self, key: KeyRecord) -> None:
        """Raises `ConfigError` for a tenant that is not there."""
        ...

    async def revoke(self, key_id: str) -> bool:
        """Forget the key whose digest begins so; False if there is none, `ConfigError` if there are several."""
        ...


class Buckets(Protocol):
    """How much, across all routers. Likewise."""

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        """Take `want` units, or what is there if that is `need` or more, or none.

        In one step (GCRA), by the store's clock. More than the burst is never there: `retry_s` is then infinite.
        """
        ...

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        """Return units that were not used, or, negative, take what was used beyond a lease. Never above the burst."""
        ...

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        """Hold up to `wanted` of `limit` places for a router, in place of what it held; gives how many it holds.

        A claim that is not renewed ends after its time.
        """
        ...
