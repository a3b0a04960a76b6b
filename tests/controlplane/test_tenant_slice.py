"""A tenant's slice is its own, the same everywhere, and hardly moves when the fleet does."""

from collections import Counter

from kvplane.controlplane.tenant_slice import slice_of
from kvplane.policies import ReplicaId

FLEET = [ReplicaId(f"replica-{number}") for number in range(32)]


def test_a_slice_is_an_eighth_of_the_replicas_and_one_at_least() -> None:
    assert len(slice_of("acme/default", FLEET)) == 4
    assert len(slice_of("acme/default", FLEET[:7])) == 1
    assert len(slice_of("acme/default", FLEET, count=2)) == 2
    assert slice_of("acme/default", []) == ()


def test_every_router_finds_the_same_slice_in_whatever_order_it_knows_the_replicas() -> None:
    assert slice_of("acme/default", FLEET) == slice_of("acme/default", FLEET[::-1])


def test_a_slice_is_worked_out_once_while_the_fleet_is_the_same() -> None:
    slices = [slice_of(tenant, tuple(FLEET), count) for tenant in ("acme", "globex") for count in (None, None, 3)]

    assert slices[0] is slices[1]
    assert slices[2] == slices[0][:3]
    assert slices[3] is slices[4] is not slices[0]


def test_a_replica_that_comes_or_goes_changes_one_place_at_most() -> None:
    moved = 0
    for number in range(500):
        before = set(slice_of(f"tenant-{number}", FLEET, count=4))
        after = set(slice_of(f"tenant-{number}", [*FLEET, ReplicaId("new")], count=4))
        assert after - before <= {"new"}
        assert len(before - after) <= 1
        moved += len(after - before)

    assert 500 * 4 / 33 * 0.6 < moved < 500 * 4 / 33 * 1.4  # 4 of 33 places are the new one's


def test_tenants_are_spread_evenly_over_the_fleet() -> None:
    chosen = Counter(replica for number in range(2000) for replica in slice_of(f"tenant-{number}", FLEET, count=1))

    assert len(chosen) == 32
    assert max(chosen.values()) < 2 * 2000 / 32
