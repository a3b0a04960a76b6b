"""What a tenant may write into caches, so that none flushes another's: blocks, charged as expected, settled as told."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..directory.wire import Served
from .accounts import Buckets, Caller, OverLimit, Rate, Rules
from .allowance import Allowance
from .doorkeeper import Doorkeeper
from .errors import ApiError, BadRequest, LimitReached
from .tidying import tidy

_MINUTE_S = 60.0
_CHARGES = 10_000  # decisions remembered; one that is forgotten stays charged as expected
_LEARNED = 1 / 8  # of a tenant's average, by each outcome
_CROWDED_RETRY_S = 10.0  # a share of the caches shrinks as others write: nobody knows when


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may write where it likes; if not, its tenant's rule, and why."""

    answer: Literal["within"] | OverLimit
    reason: str = ""
    retry_s: float = 0.0  # infinite: never
    charged: bool = False  # what will be written counts against the limit

    def refusal(self, tenant: str) -> ApiError:
        """What a client is told where the answer is to reject."""
        if math.isinf(self.retry_s):
            return BadRequest(f"{tenant}: {self.reason}; send a shorter prompt", code="write_limit_exceeded")
        retry_after_s = max(1, math.ceil(self.retry_s))
        message = f"write limit reached for {tenant}: {self.reason}; try again in {retry_after_s} s"
        return LimitReached(message, "write_limit_exceeded", retry_after_s)


WITHIN = Verdict("within", charged=True)


class WriteLimit:
    """One per router. For each request: `budget`; of that a verdict, maybe on appeal, and a charge; then `settle`."""

    def __init__(
        self,
        buckets: Buckets,
        block_tokens: int,
        routers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = buckets
        self._block_tokens = block_tokens
        self._routers = routers
        self._clock = clock
        self._writers: dict[str, _Writer] = {}
        self._charges: OrderedDict[str, _Charge | None] = OrderedDict()  # None: settled

    async def budget(self, caller: Caller, prompt_tokens: int, max_tokens: int) -> "Budget":
        """What a request may write; so much is leased as its tenant's requests usually do of what they could.

        What it could at the most is leased along, or soon, where that is little of the limit, lest replicas that hold
        less than others be left out for want of a lease.
        """
        writer = self._writer(caller)
        budget = self._budget(writer, prompt_tokens, max_tokens)
        if writer.allowance is not None:
            most = budget.blocks(0)
            await writer.allowance.ready(math.ceil(writer.written_share * most), most)
        return budget

    def is_ready(self, caller: Caller, prompt_tokens: int, max_tokens: int) -> bool:
        """Whether `budget` would find here what it leases."""
        writer = self._writer(caller)
        if writer.allowance is None:
            return True
        most = _blocks(prompt_tokens + math.ceil(writer.output_share * max_tokens), self._block_tokens)
        return writer.allowance.has(math.ceil(writer.written_share * most))

    def settle(self, served: Served) -> None:
        """Refund what was not written, or owe what was beyond; once. Of an attempt that failed nobody knows it."""
        charge = self._charges.get(served.decision)
        if charge is None or served.finish == "failed":
            return
        self._charges[served.decision] = None
        written = _blocks(served.prompt_tokens - served.cached_tokens + served.output_tokens, self._block_tokens)
        charge.settle(written, served.output_tokens)

    async def tidy(self) -> None:
        """Keep in hand what is used, and give back what lies idle; to be called a few times a second."""
        await tidy(writer.allowance for writer in self._writers.values() if writer.allowance is not None)

    def _budget(self, writer: "_Writer", prompt_tokens: int, max_tokens: int) -> "Budget":
        output_tokens = math.ceil(writer.output_share * max_tokens)
        return Budget(self._charges, writer, self._block_tokens, prompt_tokens, max_tokens, output_tokens)

    def _writer(self, caller: Caller) -> "_Writer":
        tenant = caller.tenant
        name, rules = tenant.name, tenant.rules
        writer = self._writers.get(name)
        if writer is None:
            writer = self._writers[name] = _Writer(Rules())
        if writer.rules is not rules:
            writer.rules = rules
            writer.allowance = self._allowance(writer.allowance, f"{name}:writes", rules)
        return writer

    def _allowance(self, known: Allowance | None, bucket: str, rules: Rules) -> Allowance | None:
        per_minute = rules.write_blocks_per_minute
        if per_minute is None:
            return None
        rate = Rate(per_minute / _MINUTE_S, rules.write_burst_blocks or per_minute)
        if known is None:
            return Allowance(bucket, rate, self._buckets, self._routers, self._clock)
        known.rate = rate
        return known


class Budget:
    """What one request may write: ask with the overlap of a replica in mind, and charge with that of the chosen one."""

    def __init__(
        self,
        charges: OrderedDict[str, "_Charge | None"],
        writer: "_Writer",
        block_tokens: int,
        prompt_tokens: int,
        max_tokens: int,
        output_tokens: int,
    ) -> None:
        self._charges = charges
        self._writer = writer
        self._block_tokens = block_tokens
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self._output_tokens = output_tokens  # as far as its tenant's earlier ones tell
        self._sightings: int | None = None

    @property
    def rules(self) -> Rules:
        """Its tenant's."""
        return self._writer.rules

    def blocks(self, cached_tokens: int) -> int:
        """What it will write where so much of its prompt is; where nobody knows, that is 0."""
        return _blocks(self._prompt_tokens - cached_tokens + self._output_tokens, self._block_tokens)

    def fits(self, blocks: int) -> bool:
        """Whether so many can be charged."""
        allowance = self._writer.allowance
        return allowance is None or not allowance.wait_s(blocks)

    def verdict(self, cached_tokens: int, crowding: bool = False) -> Verdict:
        """For a replica that holds so much; `crowding` says that the tenant is over its share of the fleet's blocks."""
        rules, allowance, blocks = self._writer.rules, self._writer.allowance, self.blocks(cached_tokens)
        if crowding:
            reason = f"its blocks are more than {rules.resident_share:.0%} of the caches"
            return Verdict(rules.over_write_limit, reason, _CROWDED_RETRY_S)
        if allowance is None or self.fits(blocks):
            return WITHIN
        terms = f"{rules.write_blocks_per_minute} a minute and {allowance.rate.burst:.0f} at once"
        reason = f"{blocks} blocks to write, of {terms}"
        return Verdict(rules.over_write_limit, reason, allowance.wait_s(blocks))

    def sighted(self, name: int) -> int:
        """How often its tenant's requests lately had this prefix to write; of one request only the first counts."""
        if self._sightings is None:
            doorkeeper = self._writer.doorkeeper = self._writer.doorkeeper or Doorkeeper()
            self._sightings = doorkeeper.seen(name)
        return self._sightings

    async def appeal(self, cached_tokens: int, crowding: bool = False) -> Verdict:
        """The same, once the bucket was asked for just that: the last word where more is to be written than usual."""
        if self._writer.allowance is not None:
            await self._writer.allowance.ready(self.blocks(cached_tokens))
        return self.verdict(cached_tokens, crowding)

    def charge(self, decision_id: str, cached_tokens: int) -> None:
        """Charge what will be written within the limit; a decision's second charge is free."""
        allowance = self._writer.allowance
        if allowance is None or decision_id in self._charges:
            return
        blocks = self.blocks(cached_tokens)
        if not allowance.take(blocks):
            allowance.put_back(-blocks)  # another request was quicker; it is owed
        self._charges[decision_id] = _Charge(self._writer, allowance, blocks, self.blocks(0), self._max_tokens)
        if len(self._charges) > _CHARGES:
            self._charges.popitem(last=False)

    def cancel(self, decision_id: str) -> None:
        """Return what was charged for a decision that nobody carries out."""
        charge = self._charges.pop(decision_id, None)
        if charge is not None:
            charge.allowance.put_back(charge.blocks)


def over_share(rules: Rules, resident_blocks: int, fleet_blocks: int) -> bool:
    """Whether a tenant's blocks, copies counted, are more than its share of those the fleet can hold."""
    return rules.resident_share is not None and resident_blocks > rules.resident_share * fleet_blocks


@dataclass(slots=True)
class _Writer:
    """A tenant: its rules as they were when it last asked, and what its requests usually come to."""

    rules: Rules
    allowance: Allowance | None = None
    output_share: float = 1.0  # of max_tokens
    written_share: float = 1.0  # of prompt and expected output
    doorkeeper: Doorkeeper | None = None  # of prefixes asked for while it is over its share


@dataclass(frozen=True, slots=True)
class _Charge:
    """Blocks taken for a decision whose outcome has not come."""

    writer: _Writer
    allowance: Allowance
    blocks: int
    most: int
    max_tokens: int

    def settle(self, written: int, output_tokens: int) -> None:
        self.allowance.put_back(self.blocks - written)
        writer = self.writer
        writer.output_share = _nearer(writer.output_share, output_tokens / max(1, self.max_tokens))
        writer.written_share = _nearer(writer.written_share, written / max(1, self.most))


def _nearer(average: float, share: float) -> float:
    return average + (min(1.0, share) - average) * _LEARNED


def _blocks(tokens: int, block_tokens: int) -> int:
    return max(0, -(-tokens // block_tokens))
