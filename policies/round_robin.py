"""Each replica in its turn, by replica id; the simplest policy and the first baseline."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from .contract import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from .features import credible
from .ranking import complete


class RoundRobin:
    """Remembers whom it chose last by name, so replicas may join and leave between two turns."""

    def __init__(self) -> None:
        self._last = ReplicaId("")

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica whose id follows the last one's."""
        order = credible(candidates).replicas
        start = bisect_right(order, self._last) % len(order)
        choice = decide({"start": float(start)}, request, candidates)
        self._last = choice.replica
        return choice

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Turns come round whatever happened in them."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the replica at `basis["start"]`; a cost is a distance in the rotation, in turns."""
    field = credible(candidates)
    start = int(basis["start"]) % len(field)
    turns = (np.arange(len(field), dtype=np.float64) - start) % len(field)
    reason = "only candidate" if len(candidates) == 1 else "next in turn"
    return Choice(field.replicas[start], reason, 1.0, complete(field, turns, candidates), basis=basis)
