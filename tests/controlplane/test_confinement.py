"""Where a request may go under its tenant's write limit; blocks of 10 tokens, a prompt of 100, 10 tokens to come."""

import numpy as np
import pytest

from kvplane.controlplane.accounts import Caller, OverLimit, Rules, Tenant
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts
from kvplane.controlplane.confinement import allowed
from kvplane.controlplane.errors import BadRequest, LimitReached
from kvplane.controlplane.tenant_slice import slice_of
from kvplane.controlplane.write_limit import WITHIN, Budget, WriteLimit
from kvplane.directory import Domain, Prefix, Segment, domain_key
from kvplane.policies import Candidate, ReplicaId
from kvplane.policies.field import Field

KEY = domain_key("0" * 64, "m", "", 10)
REPLICAS = [ReplicaId(f"r{number}") for number in range(16)]


def limit() -> WriteLimit:
    return WriteLimit(MemoryAccounts(lambda: 0.0), 10, lambda: 1, lambda: 0.0)


async def budget(
    burst: int, over: OverLimit = "confine", admit_from: int = 1, writes: WriteLimit | None = None
) -> Budget:
    """All of a bucket that holds `burst` blocks, leased by the only router."""
    rules = Rules(
        write_blocks_per_minute=60,
        write_burst_blocks=burst,
        over_write_limit=over,
        resident_share=0.5,
        admit_from=admit_from,
    )
    caller = Caller(Tenant(organisation="acme", rules=rules), Domain("acme", "default"))
    found = await (writes or limit()).budget(caller, 100, 10)
    await found.appeal(100 - 10 * (burst - 1))  # one block more is for the answer
    return found


def prompt(*blocks: int) -> Prefix:
    """One of ten blocks, nine of which can be reused, that begins with these; the rest is the last one's."""
    numbers = np.repeat([*blocks, *[blocks[-1]] * (10 - len(blocks))], 10)
    return Prefix(numbers.astype("<u4").tobytes(), 10, (Segment(KEY, 1 << 20),))


def fleet(held: dict[str, int]) -> Field:
    tokens = [(each, held.get(each, 0)) for each in REPLICAS]
    return Field.of([Candidate(each, of, of, of, total_blocks=99) for each, of in tokens])


async def test_within_the_limit_all_are_open() -> None:
    candidates = fleet({"r3": 50})

    assert allowed(await budget(11), "acme/default", candidates, None) == (candidates, WITHIN)


async def test_where_a_copy_would_be_too_much_only_those_that_hold_enough_are_open() -> None:
    # 6 blocks are left: 5 of the prompt and one of the answer where half of it is held.
    open_to, verdict = allowed(await budget(6), "acme/default", fleet({"r3": 50, "r5": 40, "r7": 90}), None)

    assert [each.replica for each in open_to] == ["r3", "r7"]
    assert verdict is WITHIN


async def test_over_the_limit_a_tenant_is_confined_to_its_slice() -> None:
    open_to, verdict = allowed(await budget(5), "acme/default", fleet({"r3": 50}), None)

    assert [each.replica for each in open_to] == sorted(slice_of("acme/default", REPLICAS))
    assert len(open_to) == 2
    assert verdict.answer == "confine"


async def test_or_its_prompt_is_let_past_the_caches() -> None:
    open_to, verdict = allowed(await budget(5, "bypass"), "acme/default", fleet({"r3": 50}), None)

    assert len(open_to) == 16
    assert all(each.cached_tokens == each.expected_tokens == 0 for each in open_to)
    assert {each.total_blocks for each in open_to} == {99}
    assert verdict.answer == "bypass"


async def test_or_it_is_refused_for_now_or_for_good() -> None:
    with pytest.raises(BadRequest, match="shorter prompt"):
        allowed(await budget(5, "reject"), "acme/default", fleet({}), None)
    spent = await budget(11, "reject")
    spent.charge("d1", 0)
    with pytest.raises(LimitReached, match="write limit") as refused:
        allowed(spent, "acme/default", fleet({}), None)

    assert refused.value.retry_after_s == 11  # a block a second


async def test_a_tenant_that_crowds_the_caches_is_over_its_limit_whatever_it_writes() -> None:
    open_to, verdict = allowed(await budget(11), "acme/default", fleet({}), prompt(1))

    assert (len(open_to), verdict.answer) == (2, "confine")


async def sightings(*asked: tuple[Prefix, int], burst: int = 11, admit_from: int = 3) -> list[str]:
    """What becomes of a crowding tenant's prompts, of which one replica has so many tokens each."""
    writes = limit()
    answers: list[str] = []
    for crowder, held in asked:
        each = await budget(burst, writes=writes, admit_from=admit_from)
        _, verdict = allowed(each, "acme/default", fleet({"r3": held}), crowder)
        answers.append(verdict.answer)
    return answers


async def test_a_prefix_is_worth_room_from_the_sighting_that_its_tenants_rule_names() -> None:
    one, two = (prompt(1), 0), (prompt(2), 0)

    assert await sightings(one, one, two, one, two, one) == ["bypass"] * 3 + ["confine", "bypass", "confine"]
    assert await sightings(one, two, one, admit_from=2) == ["bypass", "bypass", "confine"]
    assert await sightings(one, admit_from=1) == ["confine"]


async def test_what_is_sighted_is_the_first_block_that_nobody_holds_with_all_before_it() -> None:
    asked = [(prompt(1, 2, 3), 20), (prompt(1, 2, 4), 20), (prompt(1, 2, 3, 9), 20), (prompt(1, 2, 4), 10)]

    assert await sightings(*asked, admit_from=2) == ["bypass", "bypass", "confine", "bypass"]


async def test_a_prompt_half_of_whose_blocks_are_held_is_served_where_they_are() -> None:
    assert await sightings((prompt(1), 40), (prompt(2), 50)) == ["bypass", "confine"]  # 4 and 5 of 9


async def test_a_prompt_of_less_than_a_block_is_no_prefix_to_keep() -> None:
    assert await sightings((Prefix(bytes(40), 10, (Segment(KEY, 1 << 20),)), 0)) == ["confine"]


async def test_beyond_the_write_limit_a_prompt_seen_first_gets_no_way_past_the_rule() -> None:
    # Eleven blocks are to be written, seven where four are held.
    asked = [(prompt(1), 0), (prompt(2), 30), (prompt(3), 40)]

    assert await sightings(*asked, burst=7) == ["confine", "confine", "bypass"]


async def test_a_request_that_is_decided_again_was_sighted_once() -> None:
    one = await budget(11, admit_from=2)
    verdicts = [allowed(one, "acme/default", fleet({}), prompt(1))[1] for _ in range(3)]

    assert {(each.answer, each.charged) for each in verdicts} == {("bypass", True)}
    assert {each.reason for each in verdicts} == {"sighting 1 of 2 it takes over 50% of the caches"}


async def test_nothing_is_sighted_of_a_tenant_within_its_share() -> None:
    writes = limit()
    for _ in range(5):
        assert allowed(await budget(11, writes=writes, admit_from=2), "acme/default", fleet({}), None)[1] is WITHIN
    later = await budget(11, writes=writes, admit_from=2)

    assert allowed(later, "acme/default", fleet({}), prompt(1))[1].answer == "bypass"


async def test_what_an_unknown_replica_may_hold_is_not_counted_on() -> None:
    rows = [Candidate(ReplicaId("r0"), 90, 90, 90, known=False), Candidate(ReplicaId("r1"), 50, 50, 50)]
    open_to, _ = allowed(await budget(6), "acme/default", rows, None)

    assert [each.replica for each in open_to] == ["r1"]
