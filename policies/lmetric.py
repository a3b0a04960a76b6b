"""Prefill to be done times the batch it would join: a product, so there is nothing to weigh and nothing to tune."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import cached_tokens, credible, credible_request
from .ranking import complete, lowest


class LMetric:
    """Source: Zhang and others, LMetric: Simple is Better, 2026 (arXiv 2603.15202)."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the lowest product of uncached tokens, those waiting counted in, and sequences."""
        return decide({"draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """There is nothing to fit."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest product; a cost is in token-sequences.

    The request counts in both factors, so that an idle replica's product still grows with what it would compute.
    """
    request = credible_request(request)
    field = credible(candidates)
    tokens = field.waiting_prefill_tokens + (request.prompt_tokens - cached_tokens(request, field)).astype(np.float64)
    products = tokens * (np.maximum(field.running_sequences, field.ongoing) + 1)
    pick = lowest(field, products, basis["draw"])
    reason = f"equal product: tie, {pick.tie}" if pick.tie else "lowest product"
    if len(candidates) == 1:
        reason = "only candidate"
    scores = complete(field, products, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
