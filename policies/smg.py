"""Shepherd Model Gateway's cache_aware: the best match while loads are even, the shortest queue when they are not."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import cached_tokens, credible, credible_request
from .ranking import complete, lowest


class SmgSettings(BaseModel):
    """When loads count as uneven, and how much of a prompt must match; the defaults are the gateway's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match_threshold: float = pydantic.Field(default=0.5, ge=0, le=1)  # share of the prompt; above it the match decides
    balance_requests: float = pydantic.Field(default=32.0, ge=0, le=1e6)  # busiest less idlest; beyond it, and
    balance_ratio: float = pydantic.Field(default=1.1, ge=1, le=1e6)  # beyond this multiple, loads are uneven


class Smg:
    """Load is requests in flight, as there.

    With a match below the threshold the gateway picks the smallest tree of past prompts, in later releases the
    shortest queue. A router sees no such tree, and free blocks count cached ones in; so it is the shortest queue.
    """

    def __init__(self, settings: SmgSettings, random: Random) -> None:
        self._settings = settings
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick by load if loads are uneven or too little matches, else by match."""
        settings = self._settings
        basis = {
            "match_threshold": settings.match_threshold,
            "balance_requests": settings.balance_requests,
            "balance_ratio": settings.balance_ratio,
            "draw": self._random.random(),
        }
        return decide(basis, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Loads and matches are read, not learned."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick by the rules that `basis` records; a cost is requests in flight.

    Where the match decides, each uncached token counts as more requests than any replica has.
    """
    request = credible_request(request)
    field = credible(candidates)
    cached = cached_tokens(request, field)
    costs = np.maximum(field.running_sequences, field.ongoing).astype(np.float64)
    idlest, busiest = float(costs.min()), float(costs.max())
    if busiest - idlest > basis["balance_requests"] and busiest > basis["balance_ratio"] * idlest:
        reason = "uneven loads: shortest queue"
    elif int(cached.max()) > basis["match_threshold"] * request.prompt_tokens:
        reason = "even loads: best match"
        costs += (busiest + 1) * (request.prompt_tokens - cached)
    else:
        reason = "even loads, short match: shortest queue"
    pick = lowest(field, costs, basis["draw"])
    if len(candidates) == 1:
        reason = "only candidate"
    elif pick.tie:
        reason = f"{reason}: tie, {pick.tie}"
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
