"""Estimated time to first token, whose rates, weight and trust in each replica are learned as requests are served."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from .congestion import Congestion
from .contract import Candidate, Choice, Outcome, RoutedRequest
from .features import SEQUENCE_TOKENS, credible, credible_request
from .field import Field, Floats
from .pricing import STEP_TOKENS, Prices, priced, why
from .ranking import Pick, complete, drawn, lowest
from .rates import RateFit, RateSettings
from .slowness import Slowness, factors
from .tuner import Tuner, TunerSettings

_MOST_WEIGHT = 8.0  # however full the fleet is: a prefix is never worth more of a queue
_BLOCKS_NEWEST = 0.02  # in their average
_STEP_KEEP = 0.99  # of the fullest steps seen, with each prompt that took several: another budget may be given
_TOKENS_BELOW, _MS_BELOW = 1 << 26, 1e9  # no honest outcome tells of so many, or of eleven days


class AdaptiveSettings(BaseModel):
    """Where learning begins, and what it may try."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = pydantic.Field(default=1.0, ge=0, le=_MOST_WEIGHT)  # of prefill in an idle fleet
    congested_weight: float = pydantic.Field(default=0.3, ge=0, le=100)  # more where half of the time is prefill
    backlog_weight: float = pydantic.Field(
        default=1.0, ge=0, le=100
    )  # and with each prompt in line even at the least busy
    explore: float = pydantic.Field(default=0.0, ge=0, le=1)  # of decisions, drawn evenly: for logs
    sequence_tokens: float = pydantic.Field(default=SEQUENCE_TOKENS, ge=0, le=1e6)
    cpu_us_per_token: float = pydantic.Field(default=5.0, ge=0, le=1e6)
    disk_us_per_token: float = pydantic.Field(default=40.0, ge=0, le=1e6)
    rates: RateSettings = RateSettings()
    tuner: TunerSettings = TunerSettings()


class Adaptive:
    """Costs are milliseconds, as those of `estimated_ttft`, where

    - rates are fitted to outcomes, and each replica's slowness against its class to its own;
    - prefill weighs more the busier the fleet is with it: what one prompt spares, others wait less for;
    - a bandit tries whether weights above or below that serve better.
    """

    def __init__(self, settings: AdaptiveSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._fit = RateFit(settings.rates)
        self._slowness = Slowness()
        self._congestion = Congestion()
        self._tuner = Tuner(settings.tuner, Random(random.random()))
        self._step_tokens = STEP_TOKENS
        self._blocks = 0.0  # in use where requests were placed, on average
        self._stepped = False  # whether an outcome has said more than that

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the replica of lowest cost at what is known by now."""
        settings, rates, tuner = self._settings, self._fit.rates, self._tuner
        request, field = credible_request(request), credible(candidates)
        slow, slowness = self._slowness.of(field.replicas)
        basis = {
            "base_ms": rates.base_ms,
            "token_ms": rates.token_ms,
            "token_pair_ms": rates.token_pair_ms,
            "block_ms": rates.block_ms,
            "weight": min(_MOST_WEIGHT, self._weight(request, field) * tuner.factor),
            "sequence_tokens": settings.sequence_tokens,
            "step_tokens": self._step_tokens,
            "cpu_us_per_token": settings.cpu_us_per_token,
            "disk_us_per_token": settings.disk_us_per_token,
            "explore": settings.explore,
            "explores": self._random.random(),
            "draw": self._random.random(),
            "window": float(tuner.window),
            **slow,
        }
        choice, uncached = _choice(basis, request, field, candidates, slowness)
        self._congestion.placed(uncached, rates.prefill_ms(uncached, request.prompt_tokens))
        tuner.decided(choice.replica, len(field))
        return choice

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Fit what is known to an outcome that gave a token, and whose numbers can be true."""
        if not _credible(outcome):
            return
        uncached, total = outcome.prompt_tokens - outcome.cached_tokens, outcome.prompt_tokens
        rates, steps, tokens = self._fit.rates, max(1, outcome.steps), max(uncached, outcome.step_tokens)
        blocks = self._blocks if choice is None else choice.basis.get("blocks", self._blocks)
        self._blocks += _BLOCKS_NEWEST * (blocks - self._blocks)
        beside_ms = (steps - 1) * rates.base_ms + (tokens - uncached) * rates.token_ms + steps * blocks * rates.block_ms
        usual_ms = rates.prefill_ms(uncached, total) + beside_ms
        if usual_ms > 0 and outcome.prefill_ms > 0:
            self._slowness.observe(outcome.replica, outcome.prefill_ms / usual_ms)
        self._fit.observe(uncached, total, outcome.prefill_ms, steps, outcome.step_tokens, blocks)
        if choice is None:  # an own one was counted when it was placed
            self._congestion.placed(uncached, rates.prefill_ms(uncached, total))
        if steps > 1:
            seen = tokens / steps
            self._step_tokens = max(self._step_tokens * _STEP_KEEP, seen) if self._stepped else seen
            self._stepped = True
        if choice is not None and "window" in choice.basis:
            alone_ms = rates.prefill_ms(total, total)
            self._tuner.ended(int(choice.basis["window"]), outcome.ttft_ms, outcome.total_ms, alone_ms)

    def _weight(self, request: RoutedRequest, field: Field) -> float:
        """The fuller the fleet, the more what a prefix spares is worth to those behind."""
        settings, congestion = self._settings, self._congestion
        busy = congestion.busy(request.at_s, len(field))
        waiting = field.waiting_prefill_tokens
        backlog = congestion.backlog(waiting.item(waiting.argmin()))
        return settings.weight + settings.congested_weight * busy / (1.0 - busy) + settings.backlog_weight * backlog


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest cost, or the draw of a decision that explores, at what `basis` records."""
    request, field = credible_request(request), credible(candidates)
    return _choice(basis, request, field, candidates, factors(basis, field.replicas))[0]


def _choice(
    basis: Mapping[str, float],
    request: RoutedRequest,
    field: Field,
    candidates: Sequence[Candidate],
    slowness: Floats | None,
) -> tuple[Choice, float]:
    """The choice, and how many tokens it leaves to be computed."""
    prices = priced(basis, request, field, slowness)
    costs = prices.cost_ms(basis["weight"])
    pick, reason = _pick(basis, field, prices, costs)
    if len(candidates) == 1:
        reason = "only candidate"
    ttft_ms = float(prices.ttft_ms[pick.place])
    scores = complete(field, costs, candidates)
    uncached = request.prompt_tokens - int(prices.cached_tokens[pick.place])
    basis = {**basis, "blocks": float(field.decode_blocks[pick.place])}
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, ttft_ms, basis), uncached


def _credible(outcome: Outcome) -> bool:
    if not (0 < outcome.output_tokens < _TOKENS_BELOW and 0 <= outcome.cached_tokens < outcome.prompt_tokens):
        return False
    counts, times_ms = (outcome.steps, outcome.step_tokens), (outcome.queue_ms, outcome.prefill_ms, outcome.total_ms)
    return (
        outcome.prompt_tokens < _TOKENS_BELOW
        and all(0 <= each < _TOKENS_BELOW for each in counts)
        and all(0 <= each < _MS_BELOW for each in times_ms)
    )


def _pick(basis: Mapping[str, float], field: Field, prices: Prices, costs: Floats) -> tuple[Pick, str]:
    """The chance of a choice is that of the lowest cost, less what exploring takes, and its share of that."""
    explore, best = basis["explore"], lowest(field, costs, basis["draw"])
    share = explore / len(field)
    if basis["explores"] < explore:
        place = drawn(basis["explores"] / explore, len(field))
        alike = place == best.place or (best.tie == "drawn" and _alike(field, costs, place, best.place))
        return Pick(place, "", share + (1 - explore) * (best.propensity if alike else 0.0)), "exploring"
    best = Pick(best.place, best.tie, share + (1 - explore) * best.propensity)
    return best, _reason(field, prices, best)


def _alike(field: Field, costs: Floats, one: int, other: int) -> bool:
    """Whether nothing but the draw told them apart."""
    columns = (costs, field.ongoing, field.last_chosen)
    return all(bool(column[one] == column[other]) for column in columns)


def _reason(field: Field, prices: Prices, pick: Pick) -> str:
    """As for any estimate; and of what is done on purpose: a replica that joined, another copy of a hot prefix."""
    cached, place = prices.cached_tokens, pick.place
    if cached[place]:
        return why(prices, pick)
    holders = np.count_nonzero(cached)
    if not holders and field.last_chosen[place] == 0 and np.count_nonzero(field.last_chosen):
        return "cold: to a replica not chosen before"
    if 2 * np.count_nonzero(field.waiting_sequences * (cached > 0)) > holders:
        return "another copy: those that hold the prefix are busy"
    return why(prices, pick)
