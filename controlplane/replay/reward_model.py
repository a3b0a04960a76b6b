"""A reward model for doubly robust estimates: linear, and never asked of the decisions it was fitted to."""

from dataclasses import dataclass

import numpy as np

from .off_policy import BadLog
from .run import Floats


@dataclass(frozen=True, slots=True)
class RewardModel:
    """reward = intercept + features @ coefficients."""

    intercept: float
    coefficients: Floats

    def predict(self, features: Floats) -> Floats:
        """The expected reward of actions, by the features in the last axis."""
        return np.asarray(self.intercept + features @ self.coefficients)


def fit(features: Floats, reward: Floats, *, ridge: float = 1.0, discount: float = 1.0) -> RewardModel:
    """Fit by ridge regression; each decision before the last counts `discount` times the one after it.

    `features` is (n, d). They are brought to one scale first, so that `ridge` means the same for all; the intercept is
    free, and a feature that never varies gets no weight.
    """
    if not ridge > 0 or not 0 < discount <= 1:
        raise BadLog(f"wanted a ridge above 0 and a discount above 0, at most 1; got {ridge} and {discount}")
    recency = discount ** np.arange(len(reward) - 1, -1, -1)
    recency /= recency.sum()
    centre, middle = recency @ features, float(recency @ reward)
    apart = features - centre
    scale = np.sqrt(recency @ apart**2)
    # Rounding leaves a constant feature a scale of about 1e-16 of itself.
    scale = np.where(scale > 1e-9 * (1 + np.abs(centre)), scale, np.inf)
    scaled = apart / scale
    gram = (scaled * recency[:, None]).T @ scaled + np.eye(features.shape[1]) * ridge / len(reward)
    coefficients = np.linalg.solve(gram, scaled.T @ (recency * (reward - middle))) / scale
    return RewardModel(middle - float(centre @ coefficients), coefficients)


def cross_fitted(
    taken: Floats,
    offered: Floats,
    target: Floats,
    reward: Floats,
    *,
    ridge: float = 1.0,
    discount: float = 1.0,
) -> tuple[Floats, Floats]:
    """Give `model_logged` and `model_target` of `Logged`: each half of the log is predicted by a model of the other.

    `taken` are the features of the logged actions, (n, d); `offered` of all actions, (n, actions, d); `target` the
    chances with which the other policy takes each, (n, actions). Halves are stretches of time, for decisions close in
    time know too much of each other. Raises BadLog for shapes that do not fit or values that are not finite.
    """
    n = len(reward)
    _check_shapes(taken, offered, target, n)
    logged, expected = np.empty(n), np.empty(n)
    first, second = slice(0, n // 2), slice(n // 2, n)
    for fitted, told in ((first, second), (second, first)):
        model = fit(taken[fitted], reward[fitted], ridge=ridge, discount=discount)
        logged[told] = model.predict(taken[told])
        expected[told] = (target[told] * model.predict(offered[told])).sum(axis=1)
    return logged, expected


def _check_shapes(taken: Floats, offered: Floats, target: Floats, n: int) -> None:
    fits = taken.ndim == 2 and offered.ndim == 3 and target.shape == offered.shape[:2]
    if n < 2 or not fits or taken.shape != (n, offered.shape[2]) or len(offered) != n:
        raise BadLog(
            f"wanted features (n, d), those of all actions (n, actions, d) and chances (n, actions) of n = {n} "
            f"rewards, 2 or more; got {taken.shape}, {offered.shape}, {target.shape}"
        )
    for values in (taken, offered, target):
        if not np.isfinite(values).all():
            raise BadLog("wanted finite features and chances; got some that are not")
    if not np.allclose(target.sum(axis=1), 1.0, atol=1e-6):
        raise BadLog("wanted the other policy's chances to add up to 1 in every decision; some do not")
