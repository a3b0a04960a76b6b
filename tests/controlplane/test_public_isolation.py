"""What tenants that share a public prefix share, from the decision to the blocks of an engine and back."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.errors import LimitReached
from kvplane.controlplane.public import Lead
from kvplane.controlplane.write_limit import WriteLimit
from kvplane.directory import Closure, Domain, HolderId, domain_key
from kvplane.policies import PolicySettings, build_policy
from kvplane.tests.routers import ACME, BLOCK, GLOBEX, KEYRING, MODEL, Decided, asked, decide, hold, router, words
from kvplane.workers.block_pool import BlockPool
from kvplane.workers.engine import Removed, Sampling, Stored
from kvplane.workers.scheduler import Scheduler
from kvplane.workers.vllm_events import translate

HOOLI = Domain("hooli", "default")
SYSTEM = range(100, 112)
CODE = Lead(Domain("", "code"), words(*SYSTEM), 3)
PROMPT = words(*SYSTEM, *range(9))  # three public blocks, two of its own, and a token


class Served:
    """A router of one replica: what is decided is computed there, and what is stored is told at once."""

    def __init__(self, blocks: int = 64) -> None:
        self.made = router(build_policy(PolicySettings(name="longest_prefix"), Random(1)), ("a",))
        self.pool = BlockPool(blocks, BLOCK)
        self.closure = Closure(lambda salt: domain_key(salt, MODEL, "", BLOCK), BLOCK)
        self._scheduler = Scheduler(
            self.pool, max_sequences=4, prefill_chunk=6, context=64, vocabulary=1000, stop_ids=()
        )

    def ask(self, domain: Domain, prompt: bytes, lead: Lead | None = CODE) -> int:
        """Serve a request as its ticket says; gives the tokens it found, which are those that the router saw."""
        decided = decide(self.made, replace(asked(prompt, domain), public=lead))
        ticket = decided.ticket
        generation = self._scheduler.add(ticket.request(prompt, Sampling(max_tokens=3)), 0.0)
        while step := self._scheduler.plan(0.0):
            self._tell()
            self._scheduler.finish(step, [7 for work in step if work.samples], 0.0)
        self._tell()
        self.made.decider.ended(ticket)
        self.made.sight.overlay.withdraw(ticket.number)
        assert decided.decision.predicted_cached_tokens == generation.cached_tokens
        return generation.cached_tokens

    def _tell(self) -> None:
        for event in translate(self.pool.take_events()):
            match event:
                case Stored():
                    self.closure.store(event.hashes, event.parent, event.words, event.tier, event.salt)
                case Removed():
                    self.closure.remove(event.hashes, event.tier)
        self.made.sight.holdings.apply(HolderId("a"), self.closure.drain())


def test_two_named_tenants_share_exactly_the_public_blocks() -> None:
    served = Served()
    found = [served.ask(domain, PROMPT) for domain in (ACME, ACME, GLOBEX, GLOBEX)]

    assert found == [0, 20, 12, 20]


def test_a_tenant_that_is_not_named_finds_nothing_and_leaves_nothing() -> None:
    served = Served()
    served.ask(ACME, PROMPT)
    stranger = [served.ask(HOOLI, PROMPT, lead=None) for _ in range(2)]
    fresh = Served()
    fresh.ask(HOOLI, PROMPT, lead=None)

    assert stranger == [0, 20]
    assert fresh.ask(ACME, PROMPT) == 0


def test_a_tenant_that_is_named_no_longer_finds_nothing_of_it() -> None:
    served = Served()
    served.ask(ACME, PROMPT)
    served.ask(GLOBEX, PROMPT)

    assert served.ask(GLOBEX, PROMPT, lead=None) == 0


def test_the_public_salt_is_nobodys_own_and_goes_with_a_ticket_that_is_not_to_pass_unfound() -> None:
    made = Served().made
    tickets = [decide(made, replace(asked(PROMPT, domain), public=CODE)).ticket for domain in (ACME, GLOBEX)]
    [acme, globex] = [ticket.public for ticket in tickets]

    assert acme == globex
    assert acme is not None
    assert (acme.salt, acme.blocks) == (KEYRING.salt(Domain("", "code")), 3)
    assert len({acme.salt, *(ticket.salt for ticket in tickets), KEYRING.salt(Domain("code", ""))}) == 4
    assert acme.salt not in repr(acme)
    assert tickets[0].without("a", 9e9, KEYRING.ticket_key()).public == acme


def test_a_public_block_that_is_evicted_takes_every_tenants_rest_with_it() -> None:
    served = Served(blocks=14)
    for domain in (ACME, GLOBEX):
        served.ask(domain, PROMPT)
    held = served.closure.blocks
    served.ask(HOOLI, words(*range(500, 554)), lead=None)

    assert held == 3 + 2 * 2
    assert [served.ask(domain, PROMPT) for domain in (ACME, GLOBEX)] == [0, 12]


class Limited:
    """Two tenants of five blocks to write each, and no more; replica b holds the public blocks."""

    def __init__(self, over: OverLimit) -> None:
        self._rules = Rules(write_blocks_per_minute=1, write_burst_blocks=5, over_write_limit=over)
        self._writes = WriteLimit(MemoryAccounts(lambda: 0.0), BLOCK, lambda: 1, lambda: 0.0)
        self._made = router(build_policy(PolicySettings(name="longest_prefix"), Random(1)))
        hold(self._made.sight.holdings, "b", CODE.words + words(0), CODE.domain)

    async def decide(self, domain: Domain) -> Decided:
        tenant = Tenant(organisation=domain.organisation, rules=self._rules)
        budget = await self._writes.budget(Caller(tenant, domain), len(PROMPT) // 4, 8)
        request = replace(asked(PROMPT, domain), budget=budget, public=CODE)
        await budget.appeal(self._made.decider.held_tokens(request))
        return decide(self._made, request)


async def test_public_blocks_that_are_held_are_charged_to_nobody() -> None:
    limited = Limited("reject")
    for domain in (ACME, GLOBEX):  # 21 tokens and eight to come, less twelve held: five blocks
        assert (await limited.decide(domain)).ticket.ranks[0] == "b"

    with pytest.raises(LimitReached, match="3 blocks to write"):  # the two behind them are on their way as well
        await limited.decide(ACME)


async def test_a_prompt_under_a_salt_of_its_own_does_not_begin_in_public() -> None:
    limited = Limited("bypass")
    within, beyond = [await limited.decide(ACME) for _ in range(2)]

    assert within.ticket.public is not None
    assert (beyond.decision.over_limit, beyond.ticket.public) == ("bypass", None)
    assert beyond.decision.predicted_cached_tokens == 0


@pytest.mark.parametrize("seed", range(12))
def test_whoever_asks_finds_what_was_written_under_its_own_salts_and_nothing_else(seed: int) -> None:
    chance, served = Random(seed), Served(blocks=20)
    written: set[tuple[Domain, bytes]] = set()
    hits: dict[Domain, int] = {}
    for _ in range(150):
        domain = chance.choice([ACME, GLOBEX, HOOLI])
        begins = chance.choice([SYSTEM, SYSTEM, SYSTEM[:8]])
        prompt = words(*begins, *chance.choices([1, 2], k=chance.randrange(1, 9)))
        lead = CODE if domain != HOOLI and prompt.startswith(CODE.words) else None
        domains = domains_of(domain, lead, prompt)
        cached = served.ask(domain, prompt, lead)
        found = [(each, prompt[: (at + 1) * BLOCK * 4]) for at, each in enumerate(domains[: cached // BLOCK])]

        assert cached % BLOCK == 0
        assert set(found) <= written
        for each, _ in found:
            hits[each] = hits.get(each, 0) + 1
        whole = prompt + words(7, 7, 7)[:8]  # the last token is sampled and not computed
        written |= {(each, whole[: (at + 1) * BLOCK * 4]) for at, each in enumerate(domains_of(domain, lead, whole))}
    assert hits.keys() == {ACME, GLOBEX, HOOLI, CODE.domain}


def domains_of(domain: Domain, lead: Lead | None, prompt: bytes) -> Sequence[Domain]:
    """The domain of each whole block of a prompt."""
    blocks = len(prompt) // 4 // BLOCK
    public = lead.blocks if lead else 0
    return [CODE.domain] * min(public, blocks) + [domain] * max(0, blocks - public)
