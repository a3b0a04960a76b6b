"""Factors of single replicas, worked by hand: logarithms, each outcome 0.97 of the one after it, ten in doubt."""

import math
import pickle

import numpy as np
import pytest

from kvplane.policies import ReplicaId
from kvplane.policies.slowness import Slowness, factors

A, B, C = ReplicaId("a"), ReplicaId("b"), ReplicaId("c")
FLEET = (A, B, C)


def seen(ratio: float, outcomes: int, replica: ReplicaId = B, slowness: Slowness | None = None) -> Slowness:
    slowness = slowness or Slowness()
    for _ in range(outcomes):
        slowness.observe(replica, ratio)
    return slowness


def factor(slowness: Slowness, replica: ReplicaId = B) -> float:
    return slowness.of((replica,))[0].get(f"slowness:{replica}", 1.0)


def test_before_any_outcome_all_are_alike() -> None:
    assert Slowness().of(FLEET) == ({}, None)


def test_the_second_slow_outcome_tells_not_the_first() -> None:
    # ln 4 = 1.386. One: 1.386 / 11 = 0.126, as good as none. Two: (1.386 x 0.97 + 1.386) / (1.97 + 10) = 0.228.
    assert factor(seen(4, 1)) == 1.0
    assert factor(seen(4, 2)) == pytest.approx(math.exp(0.2281), rel=1e-3)


@pytest.mark.parametrize("ratio", [2.0, 0.5])
def test_a_replica_slower_or_faster_by_half_comes_to_three_quarters_of_that_in_logarithms(ratio: float) -> None:
    # 0.97 forgets down to 33.3 outcomes, beside which ten are in doubt.
    assert math.log(factor(seen(ratio, 400))) == pytest.approx(math.log(ratio) * 33.33 / 43.33, rel=1e-3)


def test_no_outcome_counts_as_more_than_four_times_off() -> None:
    assert factor(seen(1e9, 50)) == factor(seen(4, 50))
    assert factor(seen(1e-9, 50)) == factor(seen(0.25, 50)) == pytest.approx(1 / factor(seen(4, 50)))


def test_what_a_fuller_batch_makes_slower_is_the_class() -> None:
    # ln 1.3 x 33.3 / 43.3 = 0.202, short of 0.22.
    assert seen(1.3, 400).of(FLEET) == ({}, None)


def test_one_slow_prefill_in_ten_does_not_decide() -> None:
    slowness = Slowness()
    for _ in range(50):
        seen(1.0, 9, slowness=slowness)
        seen(100.0, 1, slowness=slowness)

        assert slowness.of(FLEET) == ({}, None)


def test_thirty_usual_outcomes_make_a_replica_twice_as_slow_one_of_its_class_again() -> None:
    # 0.533 x 0.97^29 = 0.2204; once more: 0.2138.
    slowness = seen(2, 400)

    assert factor(seen(1, 29, slowness=slowness)) > 1.2
    assert seen(1, 1, slowness=slowness).of(FLEET) == ({}, None)


def test_only_those_asked_about_are_told_of_each_at_its_place() -> None:
    slowness = seen(2, 400, A, seen(0.5, 400, C))

    basis, array = slowness.of((B, C))

    assert set(basis) == {"slowness:c"}
    assert array is not None
    np.testing.assert_allclose(array, [1.0, basis["slowness:c"]])
    assert slowness.of((B,)) == ({}, None)


def test_what_is_told_follows_what_is_seen_of_the_same_replicas() -> None:
    slowness = seen(2, 10)
    earlier, _ = slowness.of(FLEET)
    later, array = seen(2, 10, slowness=slowness).of(FLEET)

    assert later["slowness:b"] > earlier["slowness:b"]
    assert array is not None
    assert array[1] == later["slowness:b"]


def test_a_basis_gives_the_factors_it_was_made_with() -> None:
    assert factors({"weight": 2.0, "slowness:b": 1.5, "slowness:gone": 3.0}, FLEET) == pytest.approx([1.0, 1.5, 1.0])
    assert factors({"weight": 2.0, "slowness:gone": 3.0}, FLEET) is None


def test_of_thousands_of_replicas_the_longest_unheard_is_forgotten() -> None:
    slowness = seen(4, 50, B, seen(4, 50, A))
    told, _ = slowness.of(FLEET)
    for number in range(4094):
        slowness.observe(ReplicaId(f"other-{number}"), 1.0)
    seen(4, 1, A, slowness)

    assert set(told) == set(slowness.of(FLEET)[0]) == {"slowness:a", "slowness:b"}

    slowness.observe(ReplicaId("one-more"), 1.0)

    assert set(slowness.of(FLEET)[0]) == {"slowness:a"}


def test_no_more_than_these_are_kept() -> None:
    slowness, sizes = Slowness(), []
    for number in range(9000):
        slowness.observe(ReplicaId(f"other-{number:04d}"), 4.0)
        slowness.observe(ReplicaId(f"other-{number:04d}"), 4.0)
        if number in (5000, 8999):
            sizes.append(len(pickle.dumps(slowness)))

    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
