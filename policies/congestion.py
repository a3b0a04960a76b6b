"""How busy a fleet is with prefill, from what was served."""

import math

_TAU_S = 30.0  # what was served that long ago counts a third


class Congestion:
    """Prefill served of late, against what could have been; for requests and outcomes in the order they come."""

    def __init__(self) -> None:
        self._busy_ms = 0.0
        self._at_s = 0.0

    def share(self, at_s: float, replicas: int) -> float:
        """The share of their time that replicas prefilled, in [0, 1); 0 where times are not known."""
        if not 0.0 < at_s < math.inf:
            return 0.0
        if at_s > self._at_s:
            self._busy_ms *= math.exp((self._at_s - at_s) / _TAU_S) if self._at_s else 0.0
            self._at_s = at_s
        return min(self._busy_ms / (1e3 * _TAU_S * replicas), 0.999)

    def served(self, prefill_ms: float) -> None:
        """Count one prefill, by what it costs alone."""
        self._busy_ms += prefill_ms
