"""How long prefill takes, learned from what was served: an online fit of four rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from .field import Floats

_Tokens = TypeVar("_Tokens", float, Floats)

_RATES = 4
_CLIP = 3.0  # no outcome counts as further than this factor from what was expected
_LEAST = 1e-3  # of the prior; rates that fell to nothing must be able to rise again
_FIRST = 8  # outcomes measured against their own median: the prior may be wrong by far more than the clip
_FADE = 0.9  # of the prior with each outcome
_FAINT = 1e-9  # of an outcome: what no outcome ever bears on stays as the prior has it
_SWEEPS = 12  # of coordinate descent an outcome; it starts from the last fit, so few do


class RateSettings(BaseModel):
    """What prefill is taken to cost before anything was served, and how fast that is forgotten."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_ms: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    token_ms: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    token_pair_ms: float = Field(default=1e-6, gt=0, allow_inf_nan=False)
    block_ms: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    prior_outcomes: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # what the four above weigh at first
    forgetting: float = Field(default=0.99, gt=0.5, le=1)  # an outcome's weight shrinks by this with each later one


@dataclass(frozen=True, slots=True)
class Rates:
    """A step takes base + token x uncached + token_pair x uncached x total + block x blocks in use, in milliseconds."""

    base_ms: float
    token_ms: float
    token_pair_ms: float  # attention: each uncached token looks at every token of the prompt
    block_ms: float = 0.0  # what running sequences read in the same step

    def prefill_ms(self, uncached_tokens: _Tokens, total_tokens: float) -> _Tokens:
        """Of one prompt, or of many at once, where nothing else runs."""
        return self.base_ms + uncached_tokens * (self.token_ms + self.token_pair_ms * total_tokens)


class RateFit:
    """Least squares of relative errors, discounted, the rates kept from going below zero.

    Errors are relative to the prior, a fixed yardstick, so that a long prompt does not drown a hundred short ones.
    """

    def __init__(self, settings: RateSettings) -> None:
        self._settings = settings
        self._prior = (settings.base_ms, settings.token_ms, settings.token_pair_ms, settings.block_ms)
        self._rates = list(self._prior)
        self._first: list[tuple[Sequence[float], float]] = []
        self._outcomes = 0
        self._clear()

    @property
    def rates(self) -> Rates:
        return Rates(*self._rates)

    def observe(
        self,
        uncached_tokens: float,
        total_tokens: float,
        prefill_ms: float,
        steps: int = 1,
        step_tokens: float = 0,
        blocks: float = 0,
    ) -> None:
        """Count one measured prefill in; sizes and times that cannot be true are left out.

        Where the engine tells of how many steps it was, and of what was computed beside it, the base is that of a
        step and the tokens are those of all: a short prompt that shared a step with a long one took as long. `blocks`
        were in use by running sequences when it was placed.
        """
        if not (1 <= uncached_tokens <= total_tokens < 1 << 48 and 0 <= prefill_ms < 1e9 and 1 <= steps < 1 << 32):
            return
        self._outcomes += 1
        pairs, read = uncached_tokens * total_tokens, steps * blocks
        parts = (float(steps), max(uncached_tokens, step_tokens), pairs, read)
        yardstick = _dot(parts, self._prior)
        sizes = tuple(part / yardstick for part in parts)
        ratio = prefill_ms / yardstick
        if len(self._first) < _FIRST:
            self._first.append((sizes, ratio))
            self._count_first()
        else:
            self._count(sizes, _clipped(ratio, _dot(sizes, self._rates)))
        self._solve()

    def _count_first(self) -> None:
        self._clear()
        usual = median(ratio for _, ratio in self._first)
        for sizes, ratio in self._first:
            self._count(sizes, _clipped(ratio, usual))

    def _clear(self) -> None:
        # The normal equations, products x rates = targets, summed over the outcomes.
        self._products = [[0.0] * _RATES for _ in range(_RATES)]
        self._targets = [0.0] * _RATES

    def _count(self, sizes: Sequence[float], ratio: float) -> None:
        keep = self._settings.forgetting
        for i in range(_RATES):
            self._targets[i] = keep * self._targets[i] + sizes[i] * ratio
            for j in range(_RATES):
                self._products[i][j] = keep * self._products[i][j] + sizes[i] * sizes[j]

    def _solve(self) -> None:
        # Convex with rates >= 0, so coordinate descent arrives: each step solves one rate exactly given the others.
        belief = max(self._settings.prior_outcomes * _FADE**self._outcomes, _FAINT)
        for _ in range(_SWEEPS):
            for i, prior in enumerate(self._prior):
                others = _dot(self._products[i], self._rates) - self._products[i][i] * self._rates[i]
                pull = belief / prior
                rate = (self._targets[i] - others + pull) / (self._products[i][i] + pull / prior)
                self._rates[i] = max(0.0, rate)


def _clipped(ratio: float, expected: float) -> float:
    expected = max(expected, _LEAST)
    return min(max(ratio, expected / _CLIP), expected * _CLIP)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2] + left[3] * right[3]
