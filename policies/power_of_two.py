"""Two replicas drawn at random, the less loaded one taken; robust to stale load."""

from collections.abc import Mapping, Sequence
from random import Random

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import credible, load_tokens
from .field import Floats
from .ranking import complete, drawn


class PowerOfTwo:
    """Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Draw two and pick the one with less to do."""
        return decide({"first": self._random.random(), "second": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Load is read, not learned."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Compare the two replicas that `basis` draws; a cost is a load in prompt tokens, the first drawn wins a tie."""
    field = credible(candidates)
    loads = load_tokens(field)
    scores = complete(field, loads, candidates)
    if len(field) == 1:
        reason = "only candidate" if len(candidates) == 1 else "only credible candidate"
        return Choice(field.replicas[0], reason, 1.0, scores, basis=basis)
    first = drawn(basis["first"], len(field))
    second = drawn(basis["second"], len(field) - 1)
    second += second >= first  # the second is drawn from the others
    chosen = second if loads[second] < loads[first] else first
    reason = "equal load of two drawn" if loads[first] == loads[second] else "lower load of two drawn"
    return Choice(field.replicas[chosen], reason, _propensity(loads, chosen), scores, basis=basis)


def _propensity(loads: Floats, chosen: int) -> float:
    # Of the pairs with the chosen one, it wins those with a busier replica, and half of those with an equal one.
    busier = int((loads > loads[chosen]).sum())
    equal = int((loads == loads[chosen]).sum()) - 1
    pairs = len(loads) * (len(loads) - 1) / 2
    return (busier + equal / 2) / pairs
