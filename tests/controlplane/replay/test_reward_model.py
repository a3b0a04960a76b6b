"""A linear reward model: exact where the reward is linear, and blind to the half it predicts."""

import numpy as np
import pytest

from kvplane.controlplane.replay.off_policy import BadLog
from kvplane.controlplane.replay.reward_model import cross_fitted, fit
from kvplane.controlplane.replay.run import Floats

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(200, 2)) * np.array([1.0, 1000.0])
REWARD = 3.0 + 2.0 * FEATURES[:, 0] - 0.001 * FEATURES[:, 1]


def test_a_linear_reward_is_found_at_any_scale() -> None:
    model = fit(FEATURES, REWARD, ridge=1e-6)

    assert model.intercept == pytest.approx(3.0)
    assert model.coefficients == pytest.approx([2.0, -0.001])
    assert model.predict(np.array([[[1.0, 1000.0], [0.0, 0.0]]])) == pytest.approx(np.array([[4.0, 3.0]]))


def test_a_great_ridge_leaves_the_mean() -> None:
    assert fit(FEATURES, REWARD, ridge=1e12).predict(FEATURES[:1]) == pytest.approx([REWARD.mean()])


def test_a_feature_that_never_varies_gets_no_weight() -> None:
    model = fit(np.column_stack((FEATURES, np.full(200, 0.1))), REWARD, ridge=1e-6)

    assert model.coefficients[2] == 0.0


def test_discounting_forgets_what_was() -> None:
    changed = np.concatenate((REWARD[:100], REWARD[100:] + 10))

    assert fit(FEATURES, changed, discount=1.0).intercept == pytest.approx(8.0, abs=1.0)
    assert fit(FEATURES, changed, discount=0.8).intercept == pytest.approx(13.0, abs=0.1)


def test_each_half_is_predicted_by_the_other() -> None:
    reward = np.concatenate((np.zeros(100), np.ones(100)))
    none = np.zeros((200, 1))

    logged, expected = cross_fitted(none, np.zeros((200, 3, 1)), np.full((200, 3), 1 / 3), reward)

    assert logged == pytest.approx(1 - reward)
    assert expected == pytest.approx(1 - reward)


def test_the_target_is_expected_over_its_chances() -> None:
    offered = np.stack((FEATURES, FEATURES[::-1]), axis=1)
    chances = np.tile((0.25, 0.75), (200, 1))

    logged, expected = cross_fitted(FEATURES, offered, chances, REWARD, ridge=1e-9)

    assert logged == pytest.approx(REWARD)
    assert expected == pytest.approx(0.25 * REWARD + 0.75 * REWARD[::-1])


def _cross(taken: Floats = FEATURES, offered: Floats | None = None, target: Floats | None = None) -> None:
    all_alike = np.stack((FEATURES, FEATURES), axis=1) if offered is None else offered
    cross_fitted(taken, all_alike, np.full((200, 2), 0.5) if target is None else target, REWARD)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadLog, match=r"of n = 200 rewards, 2 or more; got \(199, 2\)"):
        _cross(taken=FEATURES[1:])
    with pytest.raises(BadLog, match="finite features"):
        _cross(taken=FEATURES * np.nan)
    with pytest.raises(BadLog, match="add up to 1"):
        _cross(target=np.full((200, 2), 0.4))
    with pytest.raises(BadLog, match="wanted a ridge above 0"):
        fit(FEATURES, REWARD, ridge=0.0)
    with pytest.raises(BadLog, match=r"a discount above 0, at most 1; got 1\.0 and 1\.5"):
        fit(FEATURES, REWARD, discount=1.5)
