"""The published procedure: victims ask, an attacker asks the same or something else, in random order.

Gu et al., "Auditing Prompt Caching in Language Model APIs", ICML 2025. There a miss has no victim. Here it has, whose
prompt is another: so a hit and a miss differ in what the prompts share and in nothing else, and the victim's replica is
known of both.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from .errors import AuditFailed, NoAnswer
from .parties import Level, Pair, Party
from .prompts import fresh, sharing
from .reply import Ask, Reply

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How many prompts, how long, and how much of one the attacker knows."""

    samples: int  # of hits, and as many of misses, at each level
    tokens: int
    fraction: float
    victim_requests: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One procedure: the victim's last answer and the attacker's."""

    level: Level
    hit: bool
    victim: Reply
    attacker: Reply


def carry_out(
    pairs: Mapping[Level, Pair],
    plan: Plan,
    ask: Ask,
    pause: Callable[[], None] = lambda: None,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Sequence[Sample]:
    """Run hits and misses of all levels in one random order, one request at a time. Raises `AuditFailed`.

    `pause` comes between victim and attacker; `told` hears how many procedures are done, of how many.
    """
    chance = random.Random(plan.seed)
    order = list(product(pairs, (True, False))) * plan.samples
    chance.shuffle(order)
    samples = []
    for level, hit in order:
        samples.append(_sample(level, hit, pairs[level], plan, chance, ask, pause))
        told(len(samples), len(order))
    return samples


def _sample(
    level: Level, hit: bool, pair: Pair, plan: Plan, chance: random.Random, ask: Ask, pause: Callable[[], None]
) -> Sample:
    """A procedure that a request of it breaks off is begun anew, with fresh prompts."""
    for last in (False,) * (_TRIES - 1) + (True,):
        known = fresh(chance, plan.tokens)
        prompt = sharing(chance, known, plan.fraction) if hit else fresh(chance, plan.tokens)
        try:
            for _ in range(plan.victim_requests):
                victim = _asked(ask, pair.victim, known)
            pause()
            return Sample(level, hit, victim, _asked(ask, pair.attacker, prompt))
        except NoAnswer as exc:
            if last:
                raise AuditFailed(f"{exc}, {_TRIES} times; the audit needs every request answered") from exc
    raise AssertionError("the last try returns or raises")


def _asked(ask: Ask, party: Party, prompt: str) -> Reply:
    try:
        return ask(party.key, prompt)
    except NoAnswer as exc:
        raise NoAnswer(f"{party.name}: {exc}") from exc
