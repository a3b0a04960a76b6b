"""How busy a fleet is with prefill: the share of its time, and how many prompts stand in line."""

import math

_TAU_S = 30.0  # what was placed that long ago counts a third
_KEEP = 0.98  # of the line and of the usual prompt, with each further one: a burst is no congestion
_FEW = 1.0  # prompts in line at the least busy replica: bursts alone make as many
_LONGEST = 100.0  # prompts; a replica that tells of more in line says no more
_BUSIEST = 0.95


class Congestion:
    """For requests in the order they come. Both figures are 0 for a fleet that nothing was placed on yet."""

    def __init__(self) -> None:
        self._placed_ms = 0.0
        self._first_s = 0.0
        self._at_s = 0.0
        self._line = 0.0
        self._tokens = 0.0  # of a prompt, uncached, on average

    def busy(self, at_s: float, replicas: int) -> float:
        """The share of their time that replicas prefill, at most 0.95; 0 where times are not known."""
        if not 0.0 < at_s < math.inf:
            return 0.0
        if not self._first_s or at_s < self._at_s - _TAU_S:  # or the clock was set back: it would stand still for long
            self._first_s = self._at_s = at_s
            self._placed_ms = 0.0
        if at_s > self._at_s:
            self._placed_ms *= math.exp((self._at_s - at_s) / _TAU_S)
            self._at_s = at_s
        # Nothing was seen of the time before the first request, so what was seen stands for less than all of it.
        seen_s = _TAU_S * max(1.0 - math.exp((self._first_s - self._at_s) / _TAU_S), 0.1)
        return min(self._placed_ms / (1e3 * seen_s * replicas), _BUSIEST)

    def backlog(self, waiting_tokens: float) -> float:
        """Prompts in line beyond what bursts make, from the tokens that wait at the least busy replica."""
        if self._tokens:
            self._line += (1 - _KEEP) * (min(waiting_tokens / self._tokens, _LONGEST) - self._line)
        return max(self._line - _FEW, 0.0)

    def placed(self, uncached_tokens: float, prefill_ms: float) -> None:
        """Count a prompt, by what it costs alone."""
        self._placed_ms += prefill_ms
        self._tokens += (1 - _KEEP) * (uncached_tokens - self._tokens) if self._tokens else uncached_tokens
