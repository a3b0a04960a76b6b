"""The replica expected to give the first token soonest, prefill weighted for what duplicate blocks cost everyone."""

from collections.abc import Mapping, Sequence
from random import Random

import pydantic
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import SEQUENCE_TOKENS, credible, credible_request
from .pricing import STEP_TOKENS, priced, why
from .ranking import complete, lowest
from .rates import RateFit, RateSettings


class EstimatedTtftSettings(BaseModel):
    """What the estimate cannot learn from outcomes, and where its rates begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = pydantic.Field(default=2.0, ge=0, le=100)  # above 1 it prices what another copy of a prefix evicts
    sequence_tokens: float = pydantic.Field(
        default=SEQUENCE_TOKENS, ge=0, le=1e6
    )  # waiting tokens a running sequence counts as
    step_tokens: float = pydantic.Field(
        default=STEP_TOKENS, ge=1, le=1e9
    )  # new tokens that an engine computes in one step
    cpu_us_per_token: float = pydantic.Field(default=5.0, ge=0, le=1e6)  # to fetch from the cpu tier
    disk_us_per_token: float = pydantic.Field(default=40.0, ge=0, le=1e6)  # to fetch from the disk tier
    rates: RateSettings = RateSettings()


class EstimatedTtft:
    """Costs are milliseconds: wait + weight x prefill + fetch + joined + room, at rates fitted to outcomes."""

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
            "block_ms": rates.block_ms,
            "weight": settings.weight,
            "sequence_tokens": settings.sequence_tokens,
            "step_tokens": settings.step_tokens,
            "cpu_us_per_token": settings.cpu_us_per_token,
            "disk_us_per_token": settings.disk_us_per_token,
            "draw": self._random.random(),
        }
        return decide(basis, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Fit the rates to a prefill that gave a token."""
        if outcome.output_tokens > 0:
            uncached = outcome.prompt_tokens - outcome.cached_tokens
            steps = max(1, outcome.steps)
            blocks = 0.0 if choice is None else choice.basis.get("blocks", 0.0)
            self._fit.observe(uncached, outcome.prompt_tokens, outcome.prefill_ms, steps, outcome.step_tokens, blocks)


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest cost at the rates and weights that `basis` records."""
    request = credible_request(request)
    field = credible(candidates)
    prices = priced(basis, request, field)
    costs = prices.cost_ms(basis["weight"])
    pick = lowest(field, costs, basis["draw"])
    reason = "only candidate" if len(candidates) == 1 else why(prices, pick)
    ttft_ms = float(prices.ttft_ms[pick.place])
    basis = {**basis, "blocks": float(field.decode_blocks[pick.place])}
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, ttft_ms, basis)
