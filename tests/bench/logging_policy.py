"""A policy that decides as another does, explores a little, and logs what it offered, to whom, at what chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from kvplane.controlplane.replay.run import Floats, Ints
from kvplane.policies import Candidate, Choice, Outcome, Policy, RoutedRequest
from kvplane.policies import replay as decided_again
from kvplane.policies.features import cached_tokens
from kvplane.policies.field import Field


@dataclass(frozen=True, slots=True)
class Offer:
    """One logged decision; arrays are over the replicas, by rising id, shape (n,)."""

    prompt_tokens: int
    cached_tokens: Ints
    waiting_tokens: Ints
    running_sequences: Ints
    taken: int  # the place of the replica that got it
    own: Floats  # with what chance the policy takes each, exploration left out
    propensity: float  # with what chance this one was taken, exploration counted in
    target: Floats  # with what chance the other policy takes each


@dataclass(frozen=True, slots=True)
class Named:
    """A policy and the name that its choices are decided again by."""

    name: str
    policy: Policy

    def chances(self, request: RoutedRequest, field: Field) -> tuple[Choice, Floats]:
        """Its choice, and with what chance it takes each replica."""
        choice = self.policy.choose(request, field)
        return choice, _chances(self.name, choice, request, field)


class LoggingPolicy:
    """Explores evenly with a chance of `floor`. The other policy sees the same, and hears of the same outcomes."""

    def __init__(self, policy: Named, target: Named, floor: float, random: Random, log: list[Offer]) -> None:
        self._policy = policy
        self._target = target
        self._floor = floor
        self._random = random
        self._log = log

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Decide, mostly as the policy does."""
        field = Field.of(candidates)
        choice, own = self._policy.chances(request, field)
        target = self._target.chances(request, field)[1]
        explores = self._random.random() < self._floor
        taken = self._random.randrange(len(field)) if explores else field.replicas.index(choice.replica)
        propensity = self._floor / len(field) + (1 - self._floor) * float(own[taken])
        self._log.append(
            Offer(
                request.prompt_tokens,
                cached_tokens(request, field),
                field.waiting_prefill_tokens.copy(),
                field.running_sequences.copy(),
                taken,
                own,
                propensity,
                target,
            )
        )
        return replace(choice, replica=field.replicas[taken], propensity=propensity, predicted_ttft_ms=None)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """Tell both; to the other policy it is as if another router had chosen."""
        self._policy.policy.learn(choice, outcome)
        self._target.policy.learn(None, outcome)


def _chances(name: str, choice: Choice, request: RoutedRequest, field: Field) -> Floats:
    """Decide again with the draw in the middle of each equal share: a tie among k has k of them."""
    shares = round(1 / choice.propensity)
    chances = np.zeros(len(field))
    for share in range(shares):
        drawn = (
            choice
            if shares == 1
            else decided_again(name, {**choice.basis, "draw": (share + 0.5) / shares}, request, field)
        )
        chances[field.replicas.index(drawn.replica)] += 1 / shares
    return chances
