"""An accounts store under test, with its own way to tell time and to let it pass."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kvplane.controlplane.accounts import Rate
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.accounts.redis_accounts import RedisAccounts

SLOW = Rate(per_s=0.001, burst=10.0)  # a bucket of these terms regains nothing to speak of while a test runs


@dataclass(frozen=True, slots=True)
class Store:
    """Both contracts, their time in seconds, and a verb after which so much of it has passed, or somewhat more."""

    accounts: MemoryAccounts | RedisAccounts
    now: Callable[[], float]
    later: Callable[[float], Awaitable[None]]


def in_memory() -> Store:
    now_s = [1_000.0]

    async def later(seconds: float) -> None:
        now_s[0] += seconds

    def now() -> float:
        return now_s[0]

    return Store(MemoryAccounts(now), now, later)
