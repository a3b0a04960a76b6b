"""What a tenant over its share asks once leaves nothing in the directory; what it asks again and again does.

Three replicas of a thousand blocks, of which the tenant may have a tenth; prompts of ten blocks of four tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.decide import Asked, Decider
from kvplane.controlplane.decision import Decision
from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.controlplane.write_limit import WriteLimit
from kvplane.directory import HolderId, Holdings, Load, MemoryPages, Overlay, Served, domain_key
from kvplane.policies import PolicySettings, build_policy
from kvplane.tests.routers import ACME, BLOCK, KEYRING, MODEL, TRACEPARENT, Fresh, asked, hold, words
from kvplane.workers import Ticket

TAG = domain_key(KEYRING.salt(ACME), MODEL, "", BLOCK).tag
RESIDENT = 301  # blocks, of three hundred


class Full(Fresh):
    """A mirror that has just heard how much everyone has room for."""

    def load(self, holder: HolderId) -> tuple[Load, float]:
        return Load(total_blocks=1000), 0.1


@dataclass
class Fleet:
    """A router, its tenant's limits, and replicas that publish what tickets let them."""

    admit_from: int = 1
    over: OverLimit = "confine"
    writes_per_minute: int | None = None
    resident: int = RESIDENT
    tickets: list[Ticket] = field(default_factory=list)

    def __post_init__(self) -> None:
        roster, self.holdings = Roster(), Holdings()
        roster.update(("a", "b", "c"))
        mirror = Full(MemoryPages(), self.holdings, KEYRING.mac_key, lambda holder, served: None, lambda: 0.0)
        self.sight = Sight(self.holdings, mirror, Overlay("r1", lambda: 0.0), roster)
        policy = build_policy(PolicySettings(), Random(1))
        self.decider = Decider("r1", MODEL, BLOCK, KEYRING, self.sight, policy, "adaptive", lambda: 0)
        rules = Rules(
            resident_share=0.1,
            admit_from=self.admit_from,
            over_write_limit=self.over,
            write_blocks_per_minute=self.writes_per_minute,
        )
        self.caller = Caller(Tenant(organisation="acme", rules=rules), ACME)
        self.writes = WriteLimit(MemoryAccounts(lambda: 0.0), BLOCK, lambda: 1, lambda: 0.0)
        hold(self.holdings, "a", words(*range(self.resident * BLOCK + 1)))

    async def ask(self, prompt: bytes) -> Decision:
        """Have a prompt served to its end by the replica it is sent to."""
        request = await self.let_in(prompt)
        decision = self.decider.decide(request)
        self.serve(self.decider.issue(decision, request, TRACEPARENT), prompt)
        return decision

    async def let_in(self, prompt: bytes) -> Asked:
        tokens = len(prompt) // 4
        return replace(asked(prompt), budget=await self.writes.budget(self.caller, tokens, max_tokens=8))

    def serve(self, ticket: Ticket, prompt: bytes) -> None:
        self.tickets.append(ticket)
        if ticket.published:
            hold(self.holdings, ticket.ranks[0], prompt)
        tokens = len(prompt) // 4
        served = Served(ticket.id, "r1", "stop", tokens, 0, 8, 1.0, 2.0, 9.0)
        self.writes.settle(served)
        self.decider.learn(HolderId(ticket.ranks[0]), served)


def prompt(number: int) -> bytes:
    """Begins like no other; ten blocks of it can be reused."""
    return words(*range(10_000 + 100 * number, 10_000 + 100 * number + 10 * BLOCK + 1))


async def scanned(fleet: Fleet) -> Sequence[Sequence[Decision]]:
    """A thousand prompts that come once; each of ten that come again after every hundredth. What became of these."""
    recurring: list[list[Decision]] = [[] for _ in range(10)]
    for number in range(1000):
        await fleet.ask(prompt(number))
        if number % 100 == 99:
            for again, decisions in enumerate(recurring):
                decisions.append(await fleet.ask(prompt(2000 + again)))
    return recurring


async def test_a_scan_adds_nothing_while_what_recurs_is_admitted_at_its_third_sighting() -> None:
    fleet = Fleet(admit_from=3)
    for decisions in await scanned(fleet):
        assert [each.over_limit for each in decisions] == ["bypass"] * 2 + ["confine"] * 8
        assert [each.predicted_cached_tokens for each in decisions] == [0] * 3 + [40] * 7

    assert fleet.holdings.resident(TAG) == RESIDENT + 10 * 10
    hidden = [ticket.salt for ticket in fleet.tickets if not ticket.published]
    assert len(set(hidden) - {KEYRING.salt(ACME)}) == len(hidden) == 1000 + 2 * 10


async def test_where_every_prompt_is_admitted_a_scan_fills_the_directory() -> None:
    fleet = Fleet(admit_from=1)
    await scanned(fleet)

    assert fleet.holdings.resident(TAG) == RESIDENT + 1010 * 10


async def test_within_its_share_a_tenant_is_not_asked_how_often() -> None:
    fleet = Fleet(admit_from=3, resident=299)
    first, second = [await fleet.ask(prompt(number)) for number in range(2)]

    assert (first.over_limit, second.over_limit) == (None, "bypass")
    assert fleet.holdings.resident(TAG) == 299 + 10
    assert second.reason.startswith("bypass: sighting 1 of 3 it takes over 10% of the caches; ")


async def test_a_request_that_its_replica_declines_is_no_second_sighting() -> None:
    fleet = Fleet(admit_from=2)
    request = await fleet.let_in(prompt(1))
    for _ in range(3):
        ticket = fleet.decider.issue(fleet.decider.decide(request), request, TRACEPARENT)
        fleet.decider.declined(ticket, Load(total_blocks=1000), request.budget)

    assert not ticket.published
    assert (await fleet.ask(prompt(1))).over_limit == "confine"


async def test_what_passes_by_the_caches_is_charged_and_beyond_that_it_does_not_pass() -> None:
    fleet = Fleet(admit_from=2, over="confine", writes_per_minute=30)
    answers = [(await fleet.ask(prompt(number))).over_limit for number in range(4)]

    assert answers == ["bypass", "bypass", "confine", "confine"]  # 13 blocks each, of 30


async def test_what_a_replica_does_not_find_under_another_salt_it_had_not_promised() -> None:
    fleet = Fleet(over="bypass")
    hold(fleet.holdings, "b", prompt(1))
    decisions = [await fleet.ask(prompt(1)) for _ in range(50)]

    assert {each.claimed_tokens for each in decisions} == {0}
    assert fleet.sight.trust.factors([HolderId(name) for name in "abc"]) is None
