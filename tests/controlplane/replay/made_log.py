"""Logs of decisions whose truth is known: replicas with drifting caches and queues, a logger, another policy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kvplane.controlplane.replay.off_policy import Logged
from kvplane.controlplane.replay.reward_model import cross_fitted
from kvplane.controlplane.replay.run import Floats, Ints

Policy = Literal["longest_prefix", "least_loaded", "prefix_and_load"]


@dataclass(frozen=True, slots=True)
class MadeLog:
    """`truth` is the other policy's mean reward in the very states of the log."""

    logged: Logged
    truth: float
    differ: float  # share of decisions in which the two policies prefer another action


def made_log(
    seed: int, logger: Policy, other: Policy, *, size: int = 3000, replicas: int = 4, explored: float = 0.2
) -> MadeLog:
    """The reward is the cached share, which a poor model knows only through a noisy feature."""
    random = np.random.default_rng(seed)
    drift = random.normal(size=(size, replicas))
    for at in range(1, size):
        drift[at] = 0.95 * drift[at - 1] + 0.31 * drift[at]
    cached = 1 / (1 + np.exp(-2 * drift))
    load = random.exponential(size=(size, replicas))
    preferred, wanted = (_preferred(policy, cached, load) for policy in (logger, other))
    chance = np.full((size, replicas), explored / replicas)
    chance[np.arange(size), preferred] += 1 - explored
    target = np.zeros((size, replicas))
    target[np.arange(size), wanted] = 1.0
    taken = np.arange(size), (chance.cumsum(axis=1) > random.random((size, 1))).argmax(axis=1)
    reward = (cached + 0.05 * random.normal(size=(size, replicas)))[taken]
    features = np.stack((cached**2, load), axis=2)
    predicted = cross_fitted(features[taken], features, target, reward)
    logged = Logged(chance[taken], reward, target[taken], *predicted)
    return MadeLog(logged, float((target * cached).sum(axis=1).mean()), float((preferred != wanted).mean()))


def _preferred(policy: Policy, cached: Floats, load: Floats) -> Ints:
    worth = {"longest_prefix": cached, "least_loaded": -load, "prefix_and_load": cached - 0.6 * load}[policy]
    return np.asarray(worth.argmax(axis=1))
