"""What another policy would have earned per decision, from a log of decisions and the chance each had.

It answers for single decisions in the states that the logging policy met. What a policy does to later queues shows
only on live traffic (`switchback.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from .blocks import block_length, draw_blocks, interval
from .run import Floats

CLIP = 1000.0  # a greater weight counts as this: more bias, less noise
LEAST = 20  # decisions; with fewer nothing can be said
_SEEN = 20  # the greatest weight must be that of so many decisions, or the few that have more decide everything
_DRAWS = 2000
_CHANCE = 3.0  # standard errors; weights whose mean is further from 1 are not so by chance

_Means = Floats  # the mean of each row of terms in every draw, shape (draws, rows)


class BadLog(ValueError):
    """What cannot be used in a log, in which decision, and what was wanted."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Decisions in the order they were made, arrays of shape (n,). Raises BadLog for values that cannot be."""

    propensity: Floats  # the chance with which the logged action was taken, above 0
    reward: Floats
    target_probability: Floats  # the chance with which the other policy takes it
    model_logged: Floats | None = None  # the reward predicted of the logged action (`reward_model.py`)
    model_target: Floats | None = None  # the same, expected over the other policy's actions

    def __post_init__(self) -> None:
        if len(self.reward) < LEAST:
            raise BadLog(f"wanted at least {LEAST} decisions; got {len(self.reward)}")
        for name in ("propensity", "reward", "target_probability", "model_logged", "model_target"):
            values = getattr(self, name)
            if values is not None and values.shape != self.reward.shape:
                raise BadLog(f"wanted a {name} for each of {len(self.reward)} decisions; got shape {values.shape}")
        _check("a propensity above 0, at most 1", self.propensity, (self.propensity > 0) & (self.propensity <= 1))
        chance = self.target_probability
        _check("a target probability of 0 to 1", chance, (chance >= 0) & (chance <= 1))
        _check("a finite reward", self.reward, np.isfinite(self.reward))
        for values in (self.model_logged, self.model_target):
            if values is not None:
                _check("a finite prediction", values, np.isfinite(values))


class Estimate(msgspec.Struct, frozen=True):
    """The mean reward with its 95 % interval. Where `doubt` says something, the interval is wide on purpose."""

    value: float
    low: float
    high: float
    effective_samples: float  # how many of the other policy's own decisions would say as much (Kish)
    clipped: float  # the share of all weight that clipping took away
    doubt: str = ""


def ips(logged: Logged, *, clip: float = CLIP, seed: int = 0) -> Estimate:
    """Inverse propensity scores (Horvitz and Thompson 1952): unbiased while nothing is clipped, and noisy."""
    weights = _weights(logged, clip)
    least, most = float(logged.reward.min()), float(logged.reward.max())
    terms = np.stack((weights * logged.reward, weights))
    return _estimate(logged, terms, lambda means: means[:, 0], (least, most), seed)


def snips(logged: Logged, *, clip: float = CLIP, seed: int = 0) -> Estimate:
    """The same over the mean weight (Swaminathan and Joachims 2015): a bias of 1/n, and less noise."""
    weights = _weights(logged, clip)
    if not weights.any():
        raise BadLog("wanted at least one decision that the other policy could have taken; got none")
    value = float((weights * logged.reward).sum() / weights.sum())
    beyond = float(logged.reward.min()) - value, float(logged.reward.max()) - value
    terms = np.stack((weights * logged.reward, weights))
    return _estimate(logged, terms, lambda means: _over(means[:, 0], means[:, 1], value), beyond, seed)


def doubly_robust(logged: Logged, *, clip: float = CLIP, seed: int = 0) -> Estimate:
    """A reward model's prediction, corrected by weighted residuals (Dudik, Langford and Li 2011).

    Unbiased if the propensities are right, whatever the model; the better the model, the less noise.
    """
    if logged.model_logged is None or logged.model_target is None:
        raise BadLog("wanted model_logged and model_target; got none: fit them with `cross_fitted`")
    weights = _weights(logged, clip)
    predicted = float(logged.model_target.mean())
    beyond = float(logged.reward.min()) - predicted, float(logged.reward.max()) - predicted
    terms = np.stack((logged.model_target + weights * (logged.reward - logged.model_logged), weights))
    return _estimate(logged, terms, lambda means: means[:, 0], beyond, seed)


def _check(wanted: str, values: Floats, right: NDArray[np.bool_]) -> None:
    if not right.all():
        at = int(np.flatnonzero(~right)[0])
        raise BadLog(f"decision {at}: wanted {wanted}; got {values[at]}")


def _weights(logged: Logged, clip: float) -> Floats:
    """Few decisions with great weights say little of how much the rest of their kind would vary: they lose it."""
    if not clip >= 1:
        raise BadLog(f"wanted to clip weights at 1 or more; got {clip}")
    weights = logged.target_probability / logged.propensity
    seen = float(np.partition(weights, -_SEEN)[-_SEEN])
    return np.minimum(weights, min(clip, max(seen, 1.0)))


def _estimate(
    logged: Logged, terms: Floats, value_of: Callable[[_Means], Floats], beyond: tuple[float, float], seed: int
) -> Estimate:
    """`terms` ends with the weights; `beyond` is what actions that were never logged could add, were they all."""
    weights, raw = terms[-1], float((logged.target_probability / logged.propensity).mean())
    value = float(value_of(terms.mean(axis=1)[None])[0])
    blocks = draw_blocks(len(weights), max(map(block_length, terms)), _DRAWS, np.random.default_rng(seed))
    means = blocks.sums(terms) / (blocks.length * blocks.firsts.shape[1])
    low, high = interval(value_of(means), value, blocks.widening)
    chance = max(_CHANCE * float(means[:, -1].std()), 1e-9)
    missing, effective = 1 - float(weights.mean()), _effective(weights)
    doubt = ""
    if missing > chance:
        doubt = f"{missing:.0%} of what the other policy does was logged too seldom: that part is taken as unknown"
        low, high = low + missing * min(beyond[0], 0.0), high + missing * max(beyond[1], 0.0)
    elif -missing > chance:
        doubt = f"weights average {1 - missing:.2f}, not 1: the propensities do not say how actions were drawn"
    elif effective < LEAST:
        doubt = f"the log is worth {effective:.0f} decisions of the other policy, and less than {LEAST} say nothing"
    if doubt and missing <= chance:
        low, high = min(low, float(logged.reward.min())), max(high, float(logged.reward.max()))
    return Estimate(value, low, high, effective, 1 - (1 - missing) / raw if raw else 0.0, doubt)


def _effective(weights: Floats) -> float:
    return float(weights.sum() ** 2 / (weights @ weights)) if weights.any() else 0.0


def _over(part: Floats, whole: Floats, otherwise: float) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, otherwise), where=whole > 0)
