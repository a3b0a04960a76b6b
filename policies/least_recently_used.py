"""The replica this router has left alone for longest; spreads work without knowing any load."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import credible
from .ranking import complete, lowest


class LeastRecentlyUsed:
    """Unlike a rotation it gives a replica that has just joined its turn at once."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica chosen longest ago, one never chosen first of all."""
        return decide({"draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """When a replica was chosen is all that counts."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the stalest; a cost says how many decisions later than the stalest of all a replica was chosen."""
    field = credible(candidates)
    oldest = field.last_chosen.max() + 1  # where one never chosen stands
    ages = np.where(field.last_chosen == 0, oldest, field.last_chosen)
    behind = (ages.max() - ages).astype(np.float64)
    pick = lowest(field, behind, basis["draw"])
    reason = f"never chosen: tie, {pick.tie}" if pick.tie else "least recently chosen"
    if len(candidates) == 1:
        reason = "only candidate"
    scores = complete(field, behind, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
