"""Preble's E2: exploit a cached prefix longer than the rest of its prompt, else explore for the least load."""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from .features import cached_tokens, credible, credible_request
from .field import Floats
from .ranking import complete, lowest
from .rates import RateFit, Rates, RateSettings

_LEARNED = 0.01  # of what is believed of decode and reuse gives way to each outcome, more to the first hundred
_ASSIGNED = "assigned_ms:"  # and a replica id
_FLEETS = 16  # whose names are kept; replicas come and go far less often than requests


class PrebleSettings(BaseModel):
    """How far back load is counted, how uneven it may become, and what is believed before any outcome."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_requests: int = pydantic.Field(default=512, ge=1, le=100_000)  # assigned prefill counts as load for so long
    rebalance_ratio: float = pydantic.Field(default=1.5, ge=1, le=1e9)  # heaviest over lightest that sends work across
    rebalance_after: int = pydantic.Field(default=50, ge=0, le=100_000)  # requests placed before it may
    decode_ms: float = pydantic.Field(default=1000.0, ge=0, le=1e9)  # of one request
    rates: RateSettings = RateSettings()


class Preble:
    """Source: Srivatsa and others, Preble: Efficient Distributed Prompt Scheduling, 2024 (arXiv 2407.00023), its code.

    A policy has no clock, so the window of three minutes is one of requests. It sees no single block either, so what
    must be evicted is taken to be as likely of use as a prompt token is to be reused.
    """

    def __init__(self, settings: PrebleSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._fit = RateFit(settings.rates)
        self._window = _Window(settings.window_requests)
        self._decode_ms = settings.decode_ms
        self._reuse = 0.0
        self._outcomes = 0

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the least loaded holder of a long prefix, else the lowest load and eviction."""
        rates, settings = self._fit.rates, self._settings
        basis = {
            "base_ms": rates.base_ms,
            "token_ms": rates.token_ms,
            "token_pair_ms": rates.token_pair_ms,
            "decode_ms": self._decode_ms,
            "reuse": self._reuse,
            "rebalance_ratio": settings.rebalance_ratio,
            "may_rebalance": float(self._window.placed >= settings.rebalance_after),
            "draw": self._random.random(),
        } | self._window.assigned_ms
        choice, prefill_ms = _decided(basis, request, candidates)
        self._window.assign(choice.replica, prefill_ms)
        return choice

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Fit prefill, decode and reuse; a request that another router placed is load here from then on."""
        uncached = outcome.prompt_tokens - outcome.cached_tokens
        decode_ms = outcome.total_ms - outcome.ttft_ms
        possible = 0 <= uncached <= outcome.prompt_tokens and 0 <= outcome.prefill_ms < 1e9 and 0 <= decode_ms < 1e9
        if outcome.output_tokens < 1 or not possible:
            return
        self._fit.observe(uncached, outcome.prompt_tokens, outcome.prefill_ms)
        self._outcomes += 1
        learned = max(_LEARNED, 1 / self._outcomes)
        self._decode_ms += learned * (decode_ms - self._decode_ms)
        self._reuse += learned * (outcome.cached_tokens / max(outcome.prompt_tokens, 1) - self._reuse)
        if choice is None:
            self._window.assign(outcome.replica, outcome.prefill_ms)


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick at the loads and rates that `basis` records; a cost is in milliseconds of work.

    Exploring, a replica costs its load, this prompt's prefill there, and the repeated prefill of what that evicts.
    Exploiting, a holder costs its load alone, and all others stand behind the holders.
    """
    return _decided(basis, request, candidates)[0]


def _decided(
    basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]
) -> tuple[Choice, float]:
    """Decide, and say how long the chosen replica's prefill would take."""
    request = credible_request(request)
    field = credible(candidates)
    cached = cached_tokens(request, field)
    rates = Rates(basis["base_ms"], basis["token_ms"], basis["token_pair_ms"])
    prefill_ms = rates.prefill_ms((request.prompt_tokens - cached).astype(np.float64), request.prompt_tokens)
    assigned_ms = np.array([basis.get(name, 0.0) for name in _names(field.replicas)])
    loads = assigned_ms + basis["decode_ms"] * np.maximum(field.running_sequences, field.ongoing)
    explored = loads + prefill_ms * (1 + basis["reuse"])
    costs, reason = explored, "explore: least load and eviction"
    deepest = int(cached.max())
    if deepest > request.prompt_tokens - deepest:
        costs, reason = np.where(cached == deepest, loads, loads.max() + explored), "exploit: least loaded holder"
        if basis["may_rebalance"] and _overloaded(loads, int(costs.argmin()), basis["rebalance_ratio"]):
            costs, reason = loads, "rebalance: lightest replica"
    pick = lowest(field, costs, basis["draw"])
    if len(candidates) == 1:
        reason = "only candidate"
    elif pick.tie:
        reason = f"equal cost: tie, {pick.tie}"
    scores = complete(field, costs, candidates)
    choice = Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)
    return choice, float(prefill_ms[pick.place])


def _overloaded(loads: Floats, place: int, ratio: float) -> bool:
    """The heaviest sheds what it would have exploited; the others keep theirs."""
    heaviest = loads.max()
    return bool(loads[place] == heaviest and heaviest > ratio * loads.min())


@lru_cache(maxsize=_FLEETS)
def _names(replicas: tuple[ReplicaId, ...]) -> tuple[str, ...]:
    return tuple(_ASSIGNED + replica for replica in replicas)


class _Window:
    """Prefill lately given to each replica, by its name in a basis."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._entries: deque[tuple[str, float]] = deque()
        self._counts: dict[str, int] = {}
        self.assigned_ms: dict[str, float] = {}
        self.placed = 0  # ever

    def assign(self, replica: ReplicaId, prefill_ms: float) -> None:
        """Count one request in, and the oldest out if that is one too many."""
        name = _ASSIGNED + replica
        self.placed += 1
        self._entries.append((name, prefill_ms))
        self._counts[name] = self._counts.get(name, 0) + 1
        self.assigned_ms[name] = self.assigned_ms.get(name, 0.0) + prefill_ms
        if len(self._entries) > self._requests:
            oldest, gone_ms = self._entries.popleft()
            self._counts[oldest] -= 1
            self.assigned_ms[oldest] -= gone_ms
            if not self._counts[oldest]:  # what rounding left goes with it
                del self._counts[oldest], self.assigned_ms[oldest]
