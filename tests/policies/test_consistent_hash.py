"""What stays together: the same replica for the same affinity, unless that is full."""

from collections import Counter
from random import Random

import pytest

from kvplane.policies import Candidate, Choice, ReplicaId, RoutedRequest, ranked
from kvplane.policies.consistent_hash import ConsistentHash, ConsistentHashSettings

IDS = [ReplicaId(name) for name in "abcd"]


def choose(affinity: int, requests: dict[ReplicaId, int], load_factor: float = 1.25) -> Choice:
    policy = ConsistentHash(ConsistentHashSettings(load_factor=load_factor), Random(0))
    field = [Candidate(replica, running_sequences=running) for replica, running in requests.items()]
    return policy.choose(RoutedRequest(1000, 100, 10, affinity), field)


def idle(ids: list[ReplicaId]) -> dict[ReplicaId, int]:
    return dict.fromkeys(ids, 0)


def test_an_affinity_has_one_place_whatever_the_order_of_candidates() -> None:
    for affinity in range(1, 50):
        assert choose(affinity, idle(IDS)) == choose(affinity, idle(IDS[::-1]))


def test_places_are_the_same_in_every_process() -> None:
    first = [choose(affinity, idle(IDS)).replica for affinity in range(1, 9)]

    assert first == list("aaabacac")


def test_affinities_spread_evenly() -> None:
    shares = Counter(choose(affinity, idle(IDS)).replica for affinity in range(1, 2001))

    assert all(abs(shares[replica] - 500) < 80 for replica in IDS)  # four standard deviations of 19


def test_a_replica_that_leaves_moves_nothing_but_its_own() -> None:
    stayed = [replica for replica in IDS if replica != "b"]
    for affinity in range(1, 200):
        before, after = choose(affinity, idle(IDS)), choose(affinity, idle(stayed))

        assert after.replica == (ranked(before)[1] if before.replica == "b" else before.replica)


def test_a_full_replica_passes_on_to_the_next_of_the_ring() -> None:
    # 6 run, so with this one ceil(1.25 x 7 / 4) = 3 have room on each.
    first, second, third, fourth = ranked(choose(42, idle(IDS)))
    room_left = choose(42, {first: 2, second: 3, third: 1, fourth: 0})
    full = choose(42, {first: 3, second: 1, third: 1, fourth: 1})
    both_full = choose(42, {first: 3, second: 3, third: 0, fourth: 0})

    assert (room_left.replica, room_left.reason) == (first, "first on the ring")
    assert (full.replica, full.reason) == (second, "next on the ring: first is full")
    assert both_full.replica == third
    assert full.scores[first] == room_left.scores[first] + 1


def test_the_factor_says_how_uneven_loads_may_become() -> None:
    # At 2, ceil(2 x 7 / 4) = 4 have room.
    first, second, third, fourth = ranked(choose(42, idle(IDS)))
    requests = {first: 3, second: 1, third: 1, fourth: 1}

    assert choose(42, requests, load_factor=2).replica == first


def test_some_replica_always_has_room_at_a_factor_of_one() -> None:
    choice = choose(42, {IDS[0]: 5, IDS[1]: 5, IDS[2]: 5, IDS[3]: 4}, load_factor=1)

    assert choice.replica == "d"  # ceil(20 / 4) = 5


def test_without_affinity_the_least_loaded_is_chosen() -> None:
    choice = choose(0, {IDS[0]: 2, IDS[1]: 1})  # loads of 32 and 16 tokens

    assert (choice.replica, choice.reason) == ("b", "no affinity: least loaded")
    assert choice.scores == {"a": 32 / 33, "b": 16 / 33}


@pytest.mark.parametrize("affinity", [-1, 1 << 70])
def test_an_affinity_of_more_than_64_bits_is_cut(affinity: int) -> None:
    assert choose(affinity | 5, idle(IDS)).scores == choose((affinity | 5) & ((1 << 64) - 1), idle(IDS)).scores
