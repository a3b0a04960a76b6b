"""The replica expected to give the first token soonest, prefill weighted for what duplicate blocks cost everyone."""

from collections.abc import Mapping, Sequence
from random import Random

import msgspec
import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import SEQUENCE_TOKENS, cached_tokens, credible, credible_request
from .field import HELD, Field, Floats, Ints
from .ranking import Pick, complete, lowest
from .rates import RateFit, Rates, RateSettings


class EstimatedTtftSettings(BaseModel):
    """What the estimate cannot learn from outcomes, and where its rates begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = pydantic.Field(default=2.0, ge=0, le=100)  # above 1 it prices what another copy of a prefix evicts
    sequence_tokens: float = pydantic.Field(
        default=SEQUENCE_TOKENS, ge=0, le=1e6
    )  # waiting tokens a running sequence counts as
    cpu_us_per_token: float = pydantic.Field(default=5.0, ge=0, le=1e6)  # to fetch from the cpu tier
    disk_us_per_token: float = pydantic.Field(default=40.0, ge=0, le=1e6)  # to fetch from the disk tier
    rates: RateSettings = RateSettings()


class Prices(msgspec.Struct, frozen=True):
    """What each placement would cost, in milliseconds, shape (n,)."""

    cached_tokens: Ints
    wait_ms: Floats
    prefill_ms: Floats
    fetch_ms: Floats
    room_ms: Floats  # prefill to be repeated for what a full replica has to evict

    @property
    def ttft_ms(self) -> Floats:
        return self.wait_ms + self.prefill_ms + self.fetch_ms

    def cost_ms(self, weight: float) -> Floats:
        return self.wait_ms + weight * self.prefill_ms + self.fetch_ms + self.room_ms


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
    prices = priced(basis, request, field)
    costs = prices.cost_ms(basis["weight"])
    pick = lowest(field, costs, basis["draw"])
    reason = "only candidate" if len(candidates) == 1 else why(prices, pick)
    ttft_ms = float(prices.ttft_ms[pick.place])
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, ttft_ms, basis)


def priced(basis: Mapping[str, float], request: RoutedRequest, field: Field) -> Prices:
    """Price every placement at the rates and weights that `basis` records."""
    rates = Rates(basis["base_ms"], basis["token_ms"], basis["token_pair_ms"])
    cached = cached_tokens(request, field)
    uncached = request.prompt_tokens - cached
    waiting = field.waiting_prefill_tokens + basis["sequence_tokens"] * field.running_sequences
    return Prices(
        cached_tokens=cached,
        wait_ms=waiting * rates.token_ms,
        prefill_ms=rates.prefill_ms(uncached.astype(np.float64), request.prompt_tokens),
        fetch_ms=_fetch_ms(basis, field),
        room_ms=_room_ms(rates, request, field, uncached),
    )


def _fetch_ms(basis: Mapping[str, float], field: Field) -> Floats:
    gpu, cpu, disk = (tokens.tobytes() for tokens in field.numbers[HELD])
    if gpu == cpu == disk:
        return np.zeros(len(field))
    near = np.maximum(field.cpu_tokens, field.gpu_tokens)
    from_disk = np.maximum(field.disk_tokens - near, 0)
    fetch_us = (near - field.gpu_tokens) * basis["cpu_us_per_token"] + from_disk * basis["disk_us_per_token"]
    fetch_ms: Floats = fetch_us / 1e3
    return fetch_ms


def _room_ms(rates: Rates, request: RoutedRequest, field: Field, uncached: Ints) -> Floats:
    """Price the tokens of running sequences that must make way: free blocks count cached ones in."""
    block, free = request.block_tokens, field.free_blocks
    if free[free.argmin()] >= -(-(request.prompt_tokens + request.max_tokens) // block):
        return np.zeros(len(field))  # there is room everywhere, whatever is cached
    needed = np.minimum((uncached + (request.max_tokens + block - 1)) // block, field.total_blocks)
    missing_tokens = np.maximum(needed - free, 0) * block  # of an unknown size none is
    room_ms: Floats = missing_tokens * rates.token_ms
    return room_ms


def why(prices: Prices, pick: Pick) -> str:
    """Say what decided for the chosen replica."""
    cached, chosen = prices.cached_tokens, pick.place
    deepest = cached[cached.argmax()]
    holders = (cached == deepest).nonzero()[0]
    tie = f"tie, {pick.tie}"
    if deepest == 0:
        return f"cold: {tie}" if pick.tie else "cold: least busy"
    if cached[chosen] == deepest and len(holders) > 1:
        return f"equal prefixes: {tie}" if pick.tie else "equal prefixes: least busy"
    if pick.tie:
        return f"equal cost: {tie}"
    if cached[chosen] == deepest:
        return "longest prefix"
    rival = holders[prices.ttft_ms[holders].argmin()]
    spared = {
        "shorter wait outweighs a longer prefix": prices.wait_ms[rival] - prices.wait_ms[chosen],
        "nearer tier outweighs a longer prefix": prices.fetch_ms[rival] - prices.fetch_ms[chosen],
        "free room outweighs a longer prefix": prices.room_ms[rival] - prices.room_ms[chosen],
    }
    return max(spared, key=lambda reason: float(spared[reason]))
