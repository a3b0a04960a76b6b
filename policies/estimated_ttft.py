"""The replica expected to give the first token soonest, prefill weighted for what duplicate blocks cost everyone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pydantic import BaseModel, ConfigDict, Field

from .contract import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from .features import SEQUENCE_TOKENS, cached_tokens, credible, credible_request
from .ranking import Pick, complete, lowest
from .rates import RateFit, Rates, RateSettings


class EstimatedTtftSettings(BaseModel):
    """What the estimate cannot learn from outcomes, and where its rates begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=2.0, ge=0, le=100)  # above 1 it prices what another copy of a prefix evicts
    sequence_tokens: float = Field(default=SEQUENCE_TOKENS, ge=0, le=1e6)  # waiting tokens a running sequence counts as
    cpu_us_per_token: float = Field(default=5.0, ge=0, le=1e6)  # to fetch from the cpu tier
    disk_us_per_token: float = Field(default=40.0, ge=0, le=1e6)  # to fetch from the disk tier
    rates: RateSettings = RateSettings()


@dataclass(frozen=True, slots=True)
class _Price:
    """What one placement would cost, in milliseconds."""

    cached_tokens: int
    wait_ms: float
    prefill_ms: float
    fetch_ms: float
    room_ms: float  # prefill to be repeated for what a full replica has to evict

    @property
    def ttft_ms(self) -> float:
        return self.wait_ms + self.prefill_ms + self.fetch_ms

    def cost_ms(self, weight: float) -> float:
        return self.wait_ms + weight * self.prefill_ms + self.fetch_ms + self.room_ms


_OUTWEIGHS: tuple[tuple[Callable[[_Price], float], str], ...] = (
    (lambda price: price.wait_ms, "shorter wait outweighs a longer prefix"),
    (lambda price: price.fetch_ms, "nearer tier outweighs a longer prefix"),
    (lambda price: price.room_ms, "free room outweighs a longer prefix"),
)


class EstimatedTtft:
    """Costs are milliseconds: wait + weight x prefill + fetch + room, at rates fitted to the outcomes seen."""

    def __init__(self, settings: EstimatedTtftSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._fit = RateFit(settings.rates)

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica of lowest cost at the present rates."""
        rates, settings = self._fit.rates, self._settings
        basis = {
            "base_ms": rates.base_ms,
            "token_ms": rates.token_ms,
            "token_pair_ms": rates.token_pair_ms,
            "weight": settings.weight,
            "sequence_tokens": settings.sequence_tokens,
            "cpu_us_per_token": settings.cpu_us_per_token,
            "disk_us_per_token": settings.disk_us_per_token,
            "draw": self._random.random(),
        }
        return decide(basis, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Fit the rates to a prefill that gave a token."""
        if outcome.output_tokens > 0:
            uncached = outcome.prompt_tokens - outcome.cached_tokens
            self._fit.observe(uncached, outcome.prompt_tokens, outcome.prefill_ms)


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest cost at the rates and weights that `basis` records."""
    request = credible_request(request)
    field = credible(candidates)
    rates = Rates(basis["base_ms"], basis["token_ms"], basis["token_pair_ms"])
    prices = {each.replica: _price(rates, basis, request, each) for each in field}
    scores = {replica: price.cost_ms(basis["weight"]) for replica, price in prices.items()}
    pick = lowest(field, scores, basis["draw"])
    chosen = pick.candidate.replica
    reason = "only candidate" if len(candidates) == 1 else _reason(prices, pick)
    return Choice(chosen, reason, pick.propensity, complete(scores, candidates), prices[chosen].ttft_ms, basis)


def _price(rates: Rates, basis: Mapping[str, float], request: RoutedRequest, candidate: Candidate) -> _Price:
    cached = cached_tokens(request, candidate)
    uncached = request.prompt_tokens - cached
    waiting = candidate.waiting_prefill_tokens + basis["sequence_tokens"] * candidate.running_sequences
    from_cpu = max(candidate.cpu_tokens - candidate.gpu_tokens, 0)
    from_disk = max(candidate.disk_tokens - max(candidate.cpu_tokens, candidate.gpu_tokens), 0)
    fetch_us = from_cpu * basis["cpu_us_per_token"] + from_disk * basis["disk_us_per_token"]
    return _Price(
        cached_tokens=cached,
        wait_ms=waiting * rates.token_ms,
        prefill_ms=rates.prefill_ms(uncached, request.prompt_tokens),
        fetch_ms=fetch_us / 1e3,
        room_ms=_missing_tokens(request, candidate, uncached) * rates.token_ms,
    )


def _missing_tokens(request: RoutedRequest, candidate: Candidate, uncached: int) -> int:
    """Count the tokens of running sequences that must make way: free blocks count cached ones in."""
    if not candidate.total_blocks:
        return 0
    needed = min(-(-(uncached + request.max_tokens) // request.block_tokens), candidate.total_blocks)
    return max(needed - candidate.free_blocks, 0) * request.block_tokens


def _reason(prices: Mapping[ReplicaId, _Price], pick: Pick) -> str:
    chosen = prices[pick.candidate.replica]
    deepest = max(price.cached_tokens for price in prices.values())
    holders = [price for price in prices.values() if price.cached_tokens == deepest]
    tie = f"tie, {pick.tie}"
    if deepest == 0:
        return f"cold: {tie}" if pick.tie else "cold: least busy"
    if chosen.cached_tokens == deepest and len(holders) > 1:
        return f"equal prefixes: {tie}" if pick.tie else "equal prefixes: least busy"
    if pick.tie:
        return f"equal cost: {tie}"
    if chosen.cached_tokens == deepest:
        return "longest prefix"
    rival = min(holders, key=lambda price: price.ttft_ms)
    return max(_OUTWEIGHS, key=lambda part: part[0](rival) - part[0](chosen))[1]
