"""Estimates of another policy: right by hand, right about a known truth, and wide where the log says nothing."""

from collections.abc import Callable

import numpy as np
import pytest

from kvplane.controlplane.replay.off_policy import LEAST, BadLog, Estimate, Logged, doubly_robust, ips, snips
from kvplane.tests.controlplane.replay.made_log import Policy, made_log

Estimator = Callable[[Logged], Estimate]
ESTIMATORS: tuple[Estimator, ...] = (ips, snips, doubly_robust)


def halves(reward: tuple[float, float], target: tuple[float, float], propensity: tuple[float, float]) -> Logged:
    """Forty decisions of two kinds by turns; the model says 0.5 of all."""
    kinds = [np.tile(each, 20) for each in (propensity, reward, target)]
    return Logged(kinds[0], kinds[1], kinds[2], np.full(40, 0.5), np.full(40, 0.5))


def test_estimates_are_their_formulas() -> None:
    # Weights 0.8 / 0.5 = 1.6 and 0.1 / 0.5 = 0.2; rewards 1 and 0.
    logged = halves(reward=(1.0, 0.0), target=(0.8, 0.1), propensity=(0.5, 0.5))

    assert ips(logged).value == pytest.approx(1.6 / 2)
    assert snips(logged).value == pytest.approx(1.6 / 1.8)
    assert doubly_robust(logged).value == pytest.approx(0.5 + (1.6 * 0.5 - 0.2 * 0.5) / 2)
    assert ips(logged).effective_samples == pytest.approx(40 * 1.8**2 / (2 * (1.6**2 + 0.2**2)))


def test_the_logging_policy_itself_earned_what_it_earned() -> None:
    logged = halves(reward=(1.0, 0.0), target=(0.3, 0.7), propensity=(0.3, 0.7))

    for estimator in ESTIMATORS:
        found = estimator(logged)
        assert (found.value, found.effective_samples) == pytest.approx((0.5, 40.0))
        assert found.doubt == ""


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "logger, other",
    [
        ("prefix_and_load", "longest_prefix"),
        ("prefix_and_load", "least_loaded"),
        ("least_loaded", "longest_prefix"),
    ],
)
def test_the_truth_lies_in_the_interval(estimator: Estimator, logger: Policy, other: Policy) -> None:
    logs = [made_log(seed, logger, other, size=2000) for seed in range(50)]

    held = sum(found.low <= log.truth <= found.high for log in logs if (found := estimator(log.logged)))

    assert min(log.differ for log in logs) > 0.2
    assert held >= 45


def test_intervals_are_narrow_where_policies_overlap() -> None:
    found = doubly_robust(made_log(1, "prefix_and_load", "longest_prefix").logged)

    assert found.doubt == ""
    assert found.high - found.low < 0.1


def test_a_model_makes_an_interval_narrower() -> None:
    logged = made_log(1, "prefix_and_load", "longest_prefix").logged
    plain, robust = ips(logged), doubly_robust(logged)

    assert robust.high - robust.low < 0.6 * (plain.high - plain.low)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_was_hardly_logged_is_taken_as_unknown(estimator: Estimator) -> None:
    # Of 3,000 decisions some 45 % differ, and 1 % exploration over 8 replicas logs about two of those.
    logs = [made_log(seed, "prefix_and_load", "least_loaded", replicas=8, explored=0.01) for seed in range(10)]

    for log in logs:
        found = estimator(log.logged)
        assert found.low <= log.truth <= found.high
        assert found.high - found.low > 0.2
        assert "logged too seldom" in found.doubt


def test_without_any_overlap_the_interval_is_that_of_all_rewards() -> None:
    logged = halves(reward=(1.0, 0.0), target=(0.0, 0.0), propensity=(0.5, 0.5))

    for estimator in (ips, doubly_robust):
        found = estimator(logged)
        assert (found.low, found.high, found.effective_samples) == (0.0, 1.0, 0.0)
        assert found.doubt.startswith("100% of what the other policy does")
    with pytest.raises(BadLog, match="could have taken"):
        snips(logged)


def test_propensities_that_cannot_be_true_are_doubted() -> None:
    # Always drawn and always wanted, yet said to have had one chance in two.
    found = ips(halves(reward=(1.0, 0.0), target=(1.0, 1.0), propensity=(0.5, 0.5)))

    assert "weights average 2.00, not 1" in found.doubt
    assert found.low <= 0.0
    assert found.high >= 1.0


def test_few_effective_decisions_are_said_to_be_few() -> None:
    # Seventeen of twenty could be the other policy's: by chance a few more or less than all.
    agreed = np.array([0, *[1] * 7, 0, *[1] * 6, 0, *[1] * 4], dtype=np.float64)

    found = ips(Logged(np.ones(20), np.tile((1.0, 0.0), 10), agreed))

    assert found.effective_samples == pytest.approx(17.0)
    assert found.doubt == f"the log is worth 17 decisions of the other policy, and less than {LEAST} say nothing"
    assert found.low <= 0.0
    assert found.high >= 1.0


def test_weights_that_only_a_few_decisions_have_are_not_believed() -> None:
    # Nineteen decisions of weight 40 carry everything; with them at weight 1, 97 % of what is wanted is missing.
    wanted = (np.arange(760) % 40 == 0).astype(np.float64)

    found = ips(Logged(np.where(wanted, 0.025, 0.975), wanted, wanted))

    assert found.doubt.startswith("98% of what the other policy does was logged too seldom")
    assert found.low < 0.05
    assert found.high > 0.95


def test_weights_are_clipped_where_it_is_said() -> None:
    logged = halves(reward=(1.0, 0.0), target=(0.9, 0.1), propensity=(0.1, 0.9))

    found = ips(logged, clip=3.0)

    assert found.value == pytest.approx(3 / 2)
    assert found.clipped == pytest.approx(1 - (3 + 1 / 9) / (9 + 1 / 9))
    with pytest.raises(BadLog, match=r"clip weights at 1 or more; got 0\.5"):
        ips(logged, clip=0.5)


def test_the_same_seed_draws_the_same() -> None:
    logged = made_log(1, "prefix_and_load", "longest_prefix").logged

    assert ips(logged, seed=1) == ips(logged, seed=1)
    assert ips(logged, seed=1) != ips(logged, seed=2)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.1, np.nan, np.inf])
def test_a_propensity_that_cannot_be_is_named(propensity: float) -> None:
    chances = np.full(40, 0.5)
    chances[7] = propensity

    with pytest.raises(BadLog, match=rf"decision 7: wanted a propensity above 0, at most 1; got {propensity}"):
        Logged(chances, np.ones(40), np.ones(40))


def test_other_values_that_cannot_be_are_named() -> None:
    half, ones, wrong = np.full(40, 0.5), np.ones(40), np.full(40, np.nan)

    with pytest.raises(BadLog, match="decision 0: wanted a finite reward"):
        Logged(half, wrong, half)
    with pytest.raises(BadLog, match="wanted a target probability of 0 to 1; got 2"):
        Logged(half, ones, 2 * ones)
    with pytest.raises(BadLog, match="wanted a finite prediction"):
        Logged(half, ones, half, wrong, half)
    with pytest.raises(BadLog, match=r"wanted a propensity for each of 40 decisions; got shape \(39,\)"):
        Logged(half[1:], ones, half)
    with pytest.raises(BadLog, match="at least 20 decisions; got 19"):
        Logged(half[:19], ones[:19], half[:19])


def test_a_doubly_robust_estimate_wants_a_model() -> None:
    with pytest.raises(BadLog, match="cross_fitted"):
        doubly_robust(Logged(np.full(40, 0.5), np.ones(40), np.ones(40)))
