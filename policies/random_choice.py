"""Any replica, each as likely as the next: what every other policy has to beat."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import credible
from .ranking import complete, drawn


class RandomChoice:
    """Blind to load and to cache."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Draw one."""
        return decide({"draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Every draw is as fair as the last."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the replica that `basis` draws; a cost is a distance from it by replica id, in turns."""
    field = credible(candidates)
    chosen = drawn(basis["draw"], len(field))
    turns = (np.arange(len(field), dtype=np.float64) - chosen) % len(field)
    reason = "only candidate" if len(candidates) == 1 else "drawn"
    return Choice(field.replicas[chosen], reason, 1.0 / len(field), complete(field, turns, candidates), basis=basis)
