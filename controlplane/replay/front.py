"""One router of a replay: the real decision over a mirror of its own, and the real limit of what tenants write."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...directory import Domain, HolderId, Holdings, Keyring, Mirror, Overlay, Pages
from ...directory.wire import Served
from ...policies import Policy
from ...workers import Ticket
from ..accounts import Buckets, Caller, Lease, Rate, Rules, Tenant
from ..decide import Asked, Decider
from ..decision import Decision
from ..roster import Roster
from ..sight import Sight
from ..write_limit import WriteLimit

MODEL = "replayed"
WORKSPACE = "replay"  # of every tenant
_TIDY_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What tenants may write, by name; those that are not here write what they like."""

    rules: Mapping[str, Rules] = field(default_factory=dict)
    store_s: float = 0.0  # how long the accounts store takes to answer


@dataclass(frozen=True, slots=True)
class Routed:
    """A request that was let in."""

    ticket: Ticket
    decision: Decision
    charged_blocks: int  # to its tenant's limit, until its outcome is heard; 0 where there is none or it is exceeded


class Front:
    """Decides, hands tickets on, and learns from what pages say became of them."""

    def __init__(
        self, name: str, block_tokens: int, keyring: Keyring, pages: Pages, policy: Policy, policy_name: str
    ) -> None:
        loop = asyncio.get_running_loop()
        holdings = Holdings()
        self.roster = Roster()
        self.mirror = Mirror(pages, holdings, keyring.mac_key, self._learn, loop.time)
        sight = Sight(holdings, self.mirror, Overlay(name, loop.time), self.roster)
        self.decider = Decider(
            name,
            MODEL,
            block_tokens,
            keyring,
            sight,
            policy,
            policy_name,
            lambda: round(loop.time() * 1e9),
        )
        self._block_tokens = block_tokens
        self._callers: Mapping[Domain, Caller] = {}
        self._writes: WriteLimit | None = None

    def limit(self, limits: Limits, buckets: Buckets, routers: int) -> None:
        """Hold tenants to their rules, those in other routers counted."""
        tenants = [Tenant(organisation=name, workspace=WORKSPACE, rules=rules) for name, rules in limits.rules.items()]
        callers = [Caller(tenant, Domain(tenant.organisation, tenant.workspace)) for tenant in tenants]
        self._callers = {caller.domain: caller for caller in callers}
        store = _Distant(buckets, limits.store_s) if limits.store_s else buckets
        self._writes = WriteLimit(store, self._block_tokens, lambda: routers, asyncio.get_running_loop().time)

    async def run(self) -> None:
        """Follow every live replica, and give back what lies idle here, until cancelled."""
        if self._writes is None:
            await self.mirror.run(self._live)
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.mirror.run(self._live))
                tasks.create_task(_tidy(self._writes))

    async def admit(self, asked: Asked) -> Asked:
        """The same request with what its tenant may write. Raises `ApiError` for one that the tenant's rule refuses."""
        caller = self._callers.get(asked.domain)
        return asked if caller is None else await self._limited(caller, asked)

    def route(self, asked: Asked, firm: bool) -> Routed:
        """Choose, and issue the ticket, which no replica may decline if it is firm. Raises `ApiError` as `admit`."""
        decision = self.decider.decide(asked)
        charged = 0
        if asked.budget is not None and decision.over_limit is None:
            charged = asked.budget.blocks(decision.predicted_cached_tokens)
        return Routed(self.decider.issue(decision, asked, "", firm), decision, charged)

    async def _limited(self, caller: Caller, asked: Asked) -> Asked:
        assert self._writes is not None
        budget = await self._writes.budget(caller, len(asked.words) // 4, asked.max_tokens)
        asked = replace(asked, budget=budget)
        await budget.appeal(self.decider.held_tokens(asked))
        return asked

    def _live(self) -> Sequence[HolderId]:
        return [HolderId(replica) for replica in self.roster.live]

    def _learn(self, holder: HolderId, served: Served) -> None:
        if self._writes is not None:
            self._writes.settle(served)
        self.decider.learn(holder, served)


async def _tidy(writes: WriteLimit) -> None:
    while True:
        await asyncio.sleep(_TIDY_S)
        await writes.tidy()


class _Distant:
    """Buckets half a round trip away, each way."""

    def __init__(self, buckets: Buckets, round_trip_s: float) -> None:
        self._buckets = buckets
        self._half_s = round_trip_s / 2

    async def lease(self, bucket: str, rate: Rate, need: float, want: float) -> Lease:
        await asyncio.sleep(self._half_s)
        lease = await self._buckets.lease(bucket, rate, need, want)
        await asyncio.sleep(self._half_s)
        return lease

    async def give_back(self, bucket: str, rate: Rate, units: float) -> None:
        await asyncio.sleep(self._half_s)
        await self._buckets.give_back(bucket, rate, units)
        await asyncio.sleep(self._half_s)

    async def claim(self, name: str, router: str, wanted: int, limit: int, ttl_s: float) -> int:
        return await self._buckets.claim(name, router, wanted, limit, ttl_s)
