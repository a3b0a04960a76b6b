"""Draws the next token from a model's logits."""

import numpy as np

from .engine import Sampling
from .model_folder import Array

_GREEDY = 1e-5  # so sharp that only the likeliest token has weight


def draw(logits: Array, sampling: Sampling, seed: int, position: int) -> int:
    """Pick a token; the same logits, seed and position give the same one, whatever else is in the batch.

    `logits` is [vocabulary]. Top-p keeps the fewest likeliest tokens that weigh p together (Holtzman et al., 2020).
    """
    if sampling.temperature < _GREEDY:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / np.float32(sampling.temperature), dtype=np.float64)
    tokens = np.arange(len(weights))
    if sampling.top_p < 1:
        tokens = np.argsort(-weights, kind="stable")
        weights = weights[tokens]
        before = np.cumsum(weights) - weights  # the likeliest token has nothing before it, so one is always kept
        kept = int(np.count_nonzero(before < sampling.top_p * weights.sum())) or 1
        tokens, weights = tokens[:kept], weights[:kept]
    mass = np.cumsum(weights)
    point = np.random.default_rng((seed % 2**64, position)).random() * mass[-1]
    return int(tokens[min(np.searchsorted(mass, point, side="right"), len(tokens) - 1)])
