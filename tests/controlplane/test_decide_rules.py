"""A decision under its tenant's write limit, and what it believes of replicas that did not keep their word."""

from dataclasses import replace
from random import Random

import pytest

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.decide import Asked
from kvplane.controlplane.errors import LimitReached
from kvplane.controlplane.write_limit import WriteLimit
from kvplane.directory import Domain, HolderId, Served
from kvplane.policies import PolicySettings, build_policy
from kvplane.tests.routers import ACME, BLOCK, KEYRING, Router, asked, decide, hold, router, words

PROMPT = words(*range(10))  # ten tokens and eight to come: five blocks of four


class Limited:
    """A router, and a tenant whose bucket holds `burst` blocks and gets no more."""

    def __init__(self, burst: int, over: OverLimit) -> None:
        rules = Rules(write_blocks_per_minute=1, write_burst_blocks=burst, over_write_limit=over)
        self.caller = Caller(Tenant(organisation="acme", rules=rules), ACME)
        self.writes = WriteLimit(MemoryAccounts(lambda: 0.0), BLOCK, lambda: 1, lambda: 0.0)
        self.made = router(build_policy(PolicySettings(name="longest_prefix"), Random(1)))

    async def asked(self, prompt: bytes = PROMPT) -> Asked:
        budget = await self.writes.budget(self.caller, len(prompt) // 4, 8)
        request = replace(asked(prompt), budget=budget)
        await budget.appeal(self.made.decider.held_tokens(request))
        return request


async def test_a_decision_is_charged_for_what_its_replica_does_not_hold() -> None:
    limited = Limited(burst=8, over="reject")
    hold(limited.made.sight.holdings, "b", PROMPT)
    for _ in range(2):  # ten tokens and eight to come, less the eight held: three blocks
        assert decide(limited.made, await limited.asked()).ticket.ranks[0] == "b"

    with pytest.raises(LimitReached, match="3 blocks to write"):
        decide(limited.made, await limited.asked())


async def test_what_was_not_written_is_given_back_by_the_outcome() -> None:
    limited = Limited(burst=5, over="reject")
    ticket = decide(limited.made, await limited.asked()).ticket
    with pytest.raises(LimitReached):
        decide(limited.made, await limited.asked())
    limited.writes.settle(Served(ticket.id, "r1", "stop", 10, 8, 2, 1.0, 2.0, 9.0))  # one block in truth

    assert decide(limited.made, await limited.asked(words(*range(50, 56)))).decision.over_limit is None


async def test_over_the_limit_a_prompt_passes_under_a_salt_of_its_own_that_nobody_is_told_of() -> None:
    limited = Limited(burst=2, over="bypass")
    hold(limited.made.sight.holdings, "b", words(*range(5)))
    first, second = [decide(limited.made, await limited.asked()) for _ in range(2)]

    assert {first.decision.over_limit, second.decision.over_limit} == {"bypass"}
    assert first.decision.reason.startswith("bypass: 4 blocks to write, of 1 a minute and 2 at once; ")
    assert first.decision.predicted_cached_tokens == 0
    assert len({first.ticket.salt, second.ticket.salt, KEYRING.salt(ACME)}) == 3
    assert len(first.ticket.salt) == len(KEYRING.salt(ACME))
    assert not first.ticket.published
    assert not any(each.expected_tokens for each in second.decision.candidates)
    assert decide(limited.made, asked(PROMPT)).ticket.published


async def test_confined_requests_are_not_charged_and_go_to_one_replica() -> None:
    limited = Limited(burst=2, over="confine")
    chosen = {decide(limited.made, await limited.asked(words(*range(at, at + 10)))).ticket.ranks[0] for at in range(9)}

    assert len(chosen) == 1
    within = decide(limited.made, await limited.asked(words(1)))  # nine tokens in all would be three blocks
    assert within.decision.over_limit == "confine"


def test_a_tickets_tenant_and_time_are_signed_with_it() -> None:
    decided = decide(router(None), asked(PROMPT, Domain("acme", "support", "blue", "ann")))

    assert decided.ticket.tenant == "acme/support"
    assert decided.ticket.issued_s == decided.decision.at_ns / 1e9
    assert decided.ticket.without("a", 9e9, KEYRING.ticket_key()).attempt == 1


def lie(made: Router, times: int, reported: int) -> None:
    """Requests that went to the replica that claims their prompt, and what it then said it had."""
    for _ in range(times):
        ticket = decide(made, asked(PROMPT)).ticket
        assert made.decider.learn(HolderId("b"), Served(ticket.id, "r1", "stop", 10, reported, 5, 1.0, 2.0, 9.0))


def test_who_breaks_its_promises_is_believed_less_and_judged_by_what_its_page_still_claims() -> None:
    made = router(build_policy(PolicySettings(name="longest_prefix"), Random(1)))
    whole, other = words(*range(65)), words(*range(100, 165))  # sixteen blocks each
    hold(made.sight.holdings, "b", whole)
    hold(made.sight.holdings, "b", other)
    for _ in range(30):
        decided = decide(made, asked(whole))
        assert decided.decision.claimed_tokens == (64 if decided.ticket.ranks[0] == "b" else 0)
        made.decider.learn(
            HolderId(decided.ticket.ranks[0]), Served(decided.ticket.id, "r1", "stop", 65, 0, 5, 1, 2, 9)
        )

    assert made.sight.trust.factor(HolderId("b")) < 0.2
    assert max(each.gpu_tokens for each in decide(made, asked(other)).decision.candidates) < 13


def test_who_keeps_them_is_believed_wholly() -> None:
    made = router(build_policy(PolicySettings(name="longest_prefix"), Random(1)))
    hold(made.sight.holdings, "b", PROMPT)
    lie(made, 50, reported=8)

    assert made.sight.trust.factors([HolderId("b")]) is None
    assert decide(made, asked(PROMPT)).decision.predicted_cached_tokens == 8
