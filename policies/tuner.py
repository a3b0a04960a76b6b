"""Which weight serves best, found out by trying: a bandit over windows of decisions, with guard rails.

A window is long enough for its own queues to form. It is judged by times relative to what the same prompts would have
taken uncached and alone, against the windows of the favourite around it, so that neither a longer prompt nor a busier
hour counts for or against what was tried.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import log
from random import Random
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .contract import ReplicaId

_SLOW = 0.95  # the quantile of answers that the first guard rail looks at
_FEW = 30  # outcomes, below which a window says nothing
_BASELINE = 0.3  # of the newest window of the favourite in what others are measured by


class TunerSettings(BaseModel):
    """What is tried, for how long, and when it is given up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(1.0, 0.6, 1.7), min_length=1, max_length=9
    )  # the first is the favourite until another is proven better
    window_decisions: int = Field(default=200, ge=_FEW, le=100_000)
    try_share: float = Field(default=0.1, ge=0, le=1)  # of windows that try another than the favourite
    margin: float = Field(default=0.05, ge=0, le=10)  # in logarithms: by how much better it must be to be the favourite
    keep: float = Field(default=0.9, ge=0, le=1)  # of what is known of a factor, with each further window of it
    most_slower: float = Field(default=1.25, ge=1, le=100)  # of the slowest answers; beyond, a factor is set aside
    most_uneven: float = Field(default=1.5, ge=1, le=100)  # of the busiest replica's share; likewise
    aside_windows: int = Field(default=50, ge=0, le=10_000)


@dataclass(slots=True)
class _Window:
    factor: int
    first_ms: float = 0.0  # sums
    alone_ms: float = 0.0
    ends: list[float] = field(default_factory=list)  # whole answers, relative
    sent: Counter[ReplicaId] = field(default_factory=Counter)
    replicas: int = 1  # to choose from


@dataclass(slots=True)
class _Known:
    weight: float = 0.0
    gain: float = 0.0  # a discounted sum, in logarithms
    aside_until: int = 0  # the last window that does not try it


class Tuner:
    """Outcomes may come late and in any order: a window is judged when the one after it has ended."""

    def __init__(self, settings: TunerSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._known = [_Known() for _ in settings.factors]
        self._favourite = 0
        self._windows = {0: _Window(0)}
        self._number = 0
        self._decided = 0
        self._usual: tuple[float, float, float] | None = None  # of the favourite: log of times, slow ends, unevenness

    @property
    def factor(self) -> float:
        """What the weight is multiplied by in the present window."""
        return self._settings.factors[self._windows[self._number].factor]

    @property
    def window(self) -> int:
        """The present one's number, to be given back with an outcome."""
        return self._number

    def decided(self, replica: ReplicaId, replicas: int) -> None:
        """Count a decision; `replicas`: how many there were to choose from."""
        window = self._windows[self._number]
        window.sent[replica] += 1
        window.replicas = max(window.replicas, replicas)
        self._decided += 1
        if self._decided >= self._settings.window_decisions:
            self._decided = 0
            self._next()

    def ended(self, window: int, first_ms: float, end_ms: float, alone_ms: float) -> None:
        """Count how a request of a window went; `alone_ms`: its prefill, had nothing been cached or running."""
        seen = self._windows.get(window)
        if seen is not None and alone_ms > 0:
            seen.first_ms += first_ms
            seen.alone_ms += alone_ms
            seen.ends.append(end_ms / alone_ms)

    def _next(self) -> None:
        done = self._windows.pop(self._number - 1, None)
        if done is not None and len(done.ends) >= _FEW:
            self._judge(done)
        self._number += 1
        able = [place for place, known in enumerate(self._known) if known.aside_until < self._number]
        others = [place for place in able if place != self._favourite]
        tries = bool(others) and self._random.random() < self._settings.try_share
        self._windows[self._number] = _Window(self._random.choice(others) if tries else self._favourite)

    def _judge(self, window: _Window) -> None:
        settings, known = self._settings, self._known[window.factor]
        slow = sorted(window.ends)[int(_SLOW * len(window.ends))]
        uneven = max(window.sent.values()) * window.replicas / window.sent.total()
        seen = (log(max(window.first_ms, 1e-9) / window.alone_ms), slow, uneven)
        usual = self._usual or seen
        if window.factor == self._favourite:
            self._usual = tuple(old + _BASELINE * (new - old) for old, new in zip(usual, seen, strict=True))  # type: ignore[assignment]
            return
        known.weight = settings.keep * known.weight + 1
        known.gain = settings.keep * known.gain + usual[0] - seen[0]
        if slow > settings.most_slower * usual[1] or uneven > settings.most_uneven * usual[2]:
            known.aside_until = self._number + settings.aside_windows
        elif known.gain / (known.weight + 1) > settings.margin:
            self._favourite, self._usual = window.factor, seen
            self._forget()

    def _forget(self) -> None:
        """What is known of others was known against the favourite that was."""
        for known in self._known:
            known.weight = known.gain = 0.0
