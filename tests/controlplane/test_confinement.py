"""Where a request may go under its tenant's write limit; blocks of 10 tokens, a prompt of 100, 10 tokens to come."""

import pytest

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.confinement import allowed
from kvplane.controlplane.errors import BadRequest, LimitReached
from kvplane.controlplane.tenant_slice import slice_of
from kvplane.controlplane.write_limit import WITHIN, Budget, WriteLimit
from kvplane.directory import Domain
from kvplane.policies import Candidate, ReplicaId
from kvplane.policies.field import Field

REPLICAS = [ReplicaId(f"r{number}") for number in range(16)]


async def budget(burst: int, over: OverLimit = "confine") -> Budget:
    """All of a bucket that holds `burst` blocks, leased by the only router."""
    rules = Rules(write_blocks_per_minute=60, write_burst_blocks=burst, over_write_limit=over, resident_share=0.5)
    writes = WriteLimit(MemoryAccounts(lambda: 0.0), 10, lambda: 1, lambda: 0.0)
    found = await writes.budget(Caller(Tenant(organisation="acme", rules=rules), Domain("acme", "default")), 100, 10)
    await found.appeal(100 - 10 * (burst - 1))  # one block more is for the answer
    return found


def fleet(held: dict[str, int]) -> Field:
    tokens = [(each, held.get(each, 0)) for each in REPLICAS]
    return Field.of([Candidate(each, of, of, of, total_blocks=99) for each, of in tokens])


async def test_within_the_limit_all_are_open() -> None:
    candidates = fleet({"r3": 50})

    assert allowed(await budget(11), "acme/default", candidates, crowding=False) == (candidates, WITHIN)


async def test_where_a_copy_would_be_too_much_only_those_that_hold_enough_are_open() -> None:
    # 6 blocks are left: 5 of the prompt and one of the answer where half of it is held.
    open_to, verdict = allowed(await budget(6), "acme/default", fleet({"r3": 50, "r5": 40, "r7": 90}), crowding=False)

    assert [each.replica for each in open_to] == ["r3", "r7"]
    assert verdict is WITHIN


async def test_over_the_limit_a_tenant_is_confined_to_its_slice() -> None:
    open_to, verdict = allowed(await budget(5), "acme/default", fleet({"r3": 50}), crowding=False)

    assert [each.replica for each in open_to] == sorted(slice_of("acme/default", REPLICAS))
    assert len(open_to) == 2
    assert verdict.answer == "confine"


async def test_or_its_prompt_is_let_past_the_caches() -> None:
    open_to, verdict = allowed(await budget(5, "bypass"), "acme/default", fleet({"r3": 50}), crowding=False)

    assert len(open_to) == 16
    assert all(each.cached_tokens == each.expected_tokens == 0 for each in open_to)
    assert {each.total_blocks for each in open_to} == {99}
    assert verdict.answer == "bypass"


async def test_or_it_is_refused_for_now_or_for_good() -> None:
    with pytest.raises(BadRequest, match="shorter prompt"):
        allowed(await budget(5, "reject"), "acme/default", fleet({}), crowding=False)
    spent = await budget(11, "reject")
    spent.charge("d1", 0)
    with pytest.raises(LimitReached, match="write limit") as refused:
        allowed(spent, "acme/default", fleet({}), crowding=False)

    assert refused.value.retry_after_s == 11  # a block a second


async def test_a_tenant_that_crowds_the_caches_is_over_its_limit_whatever_it_writes() -> None:
    open_to, verdict = allowed(await budget(11), "acme/default", fleet({}), crowding=True)

    assert (len(open_to), verdict.answer) == (2, "confine")


async def test_what_an_unknown_replica_may_hold_is_not_counted_on() -> None:
    rows = [Candidate(ReplicaId("r0"), 90, 90, 90, known=False), Candidate(ReplicaId("r1"), 50, 50, 50)]
    open_to, _ = allowed(await budget(6), "acme/default", rows, crowding=False)

    assert [each.replica for each in open_to] == ["r1"]
