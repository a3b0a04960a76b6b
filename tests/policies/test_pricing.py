"""The parts of a cost, worked by hand: 10 ms base, 1 ms a token, no pair term, steps of 1000 tokens."""

from collections.abc import Mapping

import numpy as np
import pytest

from kvplane.policies import Candidate, ReplicaId, RoutedRequest
from kvplane.policies.field import Field, Floats
from kvplane.policies.pricing import Prices, priced, why
from kvplane.policies.ranking import lowest

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")
REQUEST = RoutedRequest(prompt_tokens=1000, max_tokens=100, block_tokens=10)
BASIS = {
    "base_ms": 10.0,
    "token_ms": 1.0,
    "token_pair_ms": 0.0,
    "sequence_tokens": 16.0,
    "step_tokens": 1000.0,
    "cpu_us_per_token": 100.0,
    "disk_us_per_token": 500.0,
}


def prices(*candidates: Candidate, basis: Mapping[str, float] = BASIS, slowness: Floats | None = None) -> Prices:
    return priced(basis, REQUEST, Field.of(candidates), slowness)


def told(part: Floats | None) -> list[float]:
    """What a part says of each; it may be left out where it is nothing for all."""
    return [0.0] if part is None else part.tolist()


def reason(*candidates: Candidate, weight: float = 1.0) -> str:
    field = Field.of(candidates)
    found = priced(BASIS, REQUEST, field)
    return why(found, lowest(field, found.cost_ms(weight), 0.0))


def test_a_wait_is_what_is_to_be_prefilled_and_sixteen_tokens_for_each_that_decodes() -> None:
    found = prices(Candidate(A, waiting_prefill_tokens=300), Candidate(B, running_sequences=2))

    assert found.wait_ms.tolist() == [300, 32]


def test_a_prefill_is_of_what_no_tier_holds_and_always_of_the_last_token() -> None:
    found = prices(Candidate(A, 200, 300, 800), Candidate(B, 1000, 1000, 1000))

    assert found.cached_tokens.tolist() == [800, 999]
    assert found.prefill_ms.tolist() == [10 + 200, 10 + 1]


def test_each_uncached_token_looks_at_every_token_of_the_prompt() -> None:
    found = prices(Candidate(A, 800, 800, 800), basis={**BASIS, "token_pair_ms": 0.01})

    assert found.prefill_ms.tolist() == [pytest.approx(10 + 200 + 0.01 * 200 * 1000)]


def test_a_fetch_is_of_what_the_nearer_tiers_lack() -> None:
    # a: 300 of the cpu tier at 0.1 ms, 100 of the disk at 0.5 ms. b: 50 of the disk, the rest is in gpu. c: nothing.
    far, near, here = Candidate(A, 100, 400, 500), Candidate(B, 400, 0, 450), Candidate(C, 400)

    assert told(prices(far, near, here).fetch_ms) == [30 + 50, 25, 0]


def test_a_step_has_room_for_what_its_budget_leaves() -> None:
    # Of 1700 tokens and 2 requests in line the last step has 700, a share of 0.41 of them; 300 of 1000 tokens fit.
    last = prices(Candidate(A, waiting_prefill_tokens=1700, waiting_sequences=2), Candidate(B))

    assert told(last.joined_ms) == [pytest.approx(2 * 700 / 1700 * 300), 0]


def test_a_step_is_of_the_usual_size_where_a_basis_does_not_say() -> None:
    unsaid = {name: value for name, value in BASIS.items() if name != "step_tokens"}
    busy = Candidate(A, waiting_prefill_tokens=8092, waiting_sequences=1)

    assert told(prices(busy, basis=unsaid).joined_ms) == [100]


def test_a_full_replica_repeats_what_it_evicts_and_one_of_unknown_size_evicts_nothing() -> None:
    # 1100 tokens are 110 blocks of ten; 80 are free, so 30 make way.
    assert told(prices(Candidate(A, free_blocks=80, total_blocks=500), Candidate(B)).room_ms) == [300, 0]


@pytest.mark.parametrize("held, free, room_ms", [(0, 105, 50), (5, 109, 10), (5, 110, 0), (0, 110, 0)])
def test_room_is_made_for_the_answer_too_and_in_whole_blocks(held: int, free: int, room_ms: float) -> None:
    # 1100 or 1095 tokens are 110 blocks.
    full = Candidate(A, held, held, held, free_blocks=free, total_blocks=500)

    assert told(prices(full).room_ms) == [room_ms]


def test_no_more_makes_way_than_a_replica_has() -> None:
    assert told(prices(Candidate(A, free_blocks=20, total_blocks=50)).room_ms) == [300]


def test_a_cost_weighs_the_prefill_alone_and_a_time_weighs_nothing() -> None:
    parts = [np.array([part]) for part in (1.0, 20.0, 300.0, 4000.0, 50000.0)]
    found = Prices(np.array([0]), *parts)

    assert found.cost_ms(3.0).tolist() == [54361]
    assert found.ttft_ms.tolist() == [321]


def test_a_slow_replica_is_slow_at_all_but_its_tiers() -> None:
    parts = [np.array([part]) for part in (1.0, 20.0, 300.0, 4000.0, 50000.0)]
    found = Prices(np.array([0]), *parts).slowed(np.array([2.0]))

    assert found.cost_ms(3.0).tolist() == [2 + 3 * 40 + 300 + 8000 + 100000]


def test_slowness_counts_at_the_place_of_its_replica() -> None:
    found = prices(Candidate(A), Candidate(B), slowness=np.array([1.0, 1.5]))

    assert found.prefill_ms.tolist() == [1010, 1515]


HALF = Candidate(B, 500, 500, 500)


@pytest.mark.parametrize(
    "first, second, said",
    [
        (Candidate(A), Candidate(B), "cold: tie, drawn"),
        (Candidate(A, ongoing=1), Candidate(B), "cold: tie, fewer ongoing"),
        (Candidate(A, last_chosen=1), Candidate(B, last_chosen=2), "cold: tie, least recently chosen"),
        (Candidate(A, running_sequences=1), Candidate(B), "cold: least busy"),
        (Candidate(A, 500, 500, 500), HALF, "equal prefixes: tie, drawn"),
        (Candidate(A, 500, 500, 500, running_sequences=1), HALF, "equal prefixes: least busy"),
        (Candidate(A), HALF, "longest prefix"),
        (Candidate(A, 600, 600, 600, waiting_prefill_tokens=100), HALF, "equal cost: tie, drawn"),
        (Candidate(A, 600, 600, 600, waiting_prefill_tokens=101), HALF, "shorter wait outweighs a longer prefix"),
        (Candidate(A, 500, 500, 999), HALF, "longest prefix"),
        (Candidate(A, 0, 0, 590), HALF, "nearer tier outweighs a longer prefix"),
        (
            Candidate(A, 600, 600, 600, waiting_prefill_tokens=10, waiting_sequences=2),
            HALF,
            "others' wait outweighs a longer prefix",
        ),
        (
            Candidate(A, 600, 600, 600, free_blocks=30, total_blocks=500),
            Candidate(B, 500, 500, 500, free_blocks=500, total_blocks=500),
            "free room outweighs a longer prefix",
        ),
    ],
)
def test_the_reason_names_what_decided(first: Candidate, second: Candidate, said: str) -> None:
    assert reason(first, second) == said


def test_of_several_that_hold_the_most_the_one_soonest_done_is_what_was_outweighed() -> None:
    # c waits 2000 and a 200: of these two a would be the choice, and what it has more of than b is others that wait.
    busiest = Candidate(C, 900, 900, 900, waiting_prefill_tokens=2000)
    rival = Candidate(A, 900, 900, 900, waiting_prefill_tokens=200, waiting_sequences=9)

    assert reason(rival, HALF, busiest) == "others' wait outweighs a longer prefix"
