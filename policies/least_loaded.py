"""The replica with the least to do, blind to what it holds."""

from collections.abc import Mapping, Sequence
from random import Random

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import credible, load_tokens
from .ranking import complete, lowest


class LeastLoaded:
    """Spreads evenly and reuses cache only by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica with the fewest prompt tokens waiting, running sequences counted in."""
        return decide({"draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Load is read, not learned."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest load; a cost is a load in prompt tokens."""
    field = credible(candidates)
    loads = load_tokens(field)
    pick = lowest(field, loads, basis["draw"])
    reason = f"equal load: tie, {pick.tie}" if pick.tie else "least loaded"
    if len(candidates) == 1:
        reason = "only candidate"
    scores = complete(field, loads, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
