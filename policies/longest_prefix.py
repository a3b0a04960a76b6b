"""The replica that holds most of the prompt, however busy it is."""

from collections.abc import Mapping, Sequence
from random import Random

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import cached_tokens, credible, credible_request, load_tokens
from .ranking import complete, lowest


class LongestPrefix:
    """Where all prompts begin alike, one replica is given all of them: a warning, not a policy to run."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica with the fewest tokens to compute, of equals the least loaded."""
        return decide({"draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """What replicas hold is read, not learned."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest cost: the uncached tokens, and in its fraction the load, which orders equals."""
    request = credible_request(request)
    field = credible(candidates)
    cached, loads = cached_tokens(request, field), load_tokens(field)
    costs = (request.prompt_tokens - cached) + loads / (loads.max() + 1)
    pick = lowest(field, costs, basis["draw"])
    if len(candidates) == 1:
        reason = "only candidate"
    elif pick.tie:
        reason = f"equal prefix and load: tie, {pick.tie}"
    elif cached.max() == 0:
        reason = "cold: least loaded"
    else:
        shared = int((cached == cached.max()).sum()) > 1
        reason = "equal prefixes: least loaded" if shared else "longest prefix"
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
