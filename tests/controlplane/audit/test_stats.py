"""Tests of samples, against numbers worked by hand, critical values and SciPy."""

from math import inf, nextafter

import numpy as np
import pytest

from kvplane.controlplane.audit.stats import Floats, auc, auc_upper, beyond, floats, holm, ks_p


def leading_by(k: int, n: int) -> tuple[Floats, Floats]:
    """Hits that lead by exactly k of n: k of them before all else, then step by step with the misses."""
    return floats([0] * k + list(range(1, n - k + 1))), floats(list(range(1, n + 1)))


@pytest.mark.parametrize(
    "n, level, critical",
    [(250, 1e-3, 0.168), (250, 1e-8, 0.272), (1000, 1e-3, 0.084), (1000, 1e-8, 0.136), (2000, 1e-3, 0.059)],
)
def test_the_first_lead_below_a_level_is_the_critical_one(n: int, level: float, critical: float) -> None:
    k = round(critical * n)

    assert ks_p(*leading_by(k, n)) < level <= ks_p(*leading_by(k - 1, n))


@pytest.mark.parametrize(
    "lead, p",
    [
        (1.0, 8.6e-150),
        (0.772, 5.3e-74),
        (0.52, 1.7e-31),
        (0.412, 1.1e-19),
        (0.38, 9.0e-17),
        (0.272, 7.6e-9),
        (0.024, 0.87),
    ],
)
def test_leads_that_gu_and_others_measured_give_their_p(lead: float, p: float) -> None:
    assert ks_p(*leading_by(round(lead * 250), 250)) == pytest.approx(p, rel=0.01)


def test_p_counts_the_orders_in_which_hits_lead_as_far() -> None:
    # 6 orders of two hits and two misses: hhmm alone leads by two; mmhh and mhmh never lead, the other four do.
    assert ks_p(floats([1, 2]), floats([3, 4])) == pytest.approx(1 / 6)
    assert ks_p(floats([1, 4]), floats([2, 3])) == pytest.approx(4 / 6)
    assert ks_p(floats([3, 4]), floats([1, 2])) == pytest.approx(1)


def test_p_is_scipys_with_ties_and_without() -> None:
    scipy = pytest.importorskip("scipy.stats")
    chance = np.random.default_rng(1)
    samples = [(chance.normal(0, 1, n), chance.normal(shift, 1, n)) for n in (5, 40, 300) for shift in (0, 0.3, -1)]
    tied = [(np.round(hits), np.round(misses)) for hits, misses in samples]

    ours = [ks_p(*pair) for pair in samples + tied]
    scipys = [scipy.ks_2samp(*pair, alternative="greater", method="exact").pvalue for pair in samples + tied]

    assert ours == pytest.approx(scipys, rel=1e-9)


def test_auc_counts_the_pairs_in_which_the_hit_is_smaller_and_half_of_the_ties() -> None:
    # 1 < 2, 1 < 3, and 3 = 3 by half, of four pairs.
    assert auc(floats([1, 3]), floats([2, 3])) == 0.625
    assert auc(floats([2, 3]), floats([1, 3])) == 0.375


@pytest.mark.parametrize("swapped", [False, True])
def test_the_bound_has_the_spread_of_both_samples(swapped: bool) -> None:
    # One sample's shares are four ones and four zeros: variance 8/4/7. The other's are all a half: none.
    # 0.5 + 1.644854 · sqrt(2/7/8) = 0.810848
    split, same = floats([0] * 4 + [2] * 4), floats([1] * 8)
    pair = (same, split) if swapped else (split, same)

    assert auc_upper(*pair) == pytest.approx(0.810848, abs=1e-6)


def test_the_bound_of_samples_without_spread_is_their_auc() -> None:
    low, high = floats([1, 1, 1]), floats([2, 2, 2])

    assert auc_upper(low, low) == 0.5
    assert auc_upper(low, high) == 1
    assert auc_upper(high, low) == 0


def test_the_bound_holds_in_95_of_100_samples() -> None:
    chance = np.random.default_rng(2)
    missed = sum(auc_upper(chance.normal(size=100), chance.normal(size=100)) < 0.5 for _ in range(1000))

    assert 29 <= missed <= 71  # 50 are expected, 7 is their deviation


def test_hits_beyond_every_miss_are_counted() -> None:
    assert beyond(floats([1, 2, 2, 9]), floats([3, 2, 5, 4])) == 1
    assert beyond(floats([2, 2]), floats([nextafter(2, inf), 5])) == 2


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls() -> None:
    # 0.01 · 3, then 0.03 · 2, then 0.04 · 1, which would be below the one before it.
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1, "b": 1}


def test_samples_of_unequal_size_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        ks_p(floats([1, 2]), floats([1]))
    with pytest.raises(ValueError, match="got 0 and 0"):
        auc(floats([]), floats([]))
