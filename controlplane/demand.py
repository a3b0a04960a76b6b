"""What a router's next requests will need of a bucket, by what the last ones did."""

import math

_AHEAD_S = 1.0  # for which it is told
_PERIOD_S = 2.0
_SPARE_NEEDS = 4  # requests that come seldom find so many times what the last ones needed
_KEPT_S = 30.0  # since the last one
_LEARNED = 1 / 16  # of a smaller need, by each; a larger one counts at once


class Demand:
    """Of one router, for one bucket."""

    def __init__(self, now_s: float) -> None:
        self.used = 0.0  # since the period began
        self._since_s = now_s
        self._pace = 0.0  # units used a second
        self._usual = 0.0  # what one request needs, the larger ones of late
        self._used_at = -math.inf

    def use(self, units: float) -> None:
        """A request has used so much."""
        self.used += units
        self.hear(units)

    def hear(self, need: float) -> None:
        """A request will use so much, or may."""
        usual = self._usual
        self._usual = need if need > usual else usual + (need - usual) * _LEARNED

    def is_over(self, now_s: float) -> bool:
        """Whether the period is."""
        return now_s - self._since_s >= _PERIOD_S

    def begin(self, now_s: float) -> None:
        """Begin another period."""
        self._pace = (self._pace + self.used / (now_s - self._since_s)) / 2
        if self.used:
            self._used_at = now_s
        self._since_s, self.used = now_s, 0.0

    def expected(self, now_s: float) -> float:
        """Units that the next second's requests will use, by the last ones' pace."""
        elapsed_s = max(_AHEAD_S, now_s - self._since_s)
        return _AHEAD_S * max(self._pace, self.used / elapsed_s)

    def spare(self, most: float) -> float:
        """Units to lie ready for requests that come seldom; none where `most` is less than one needs."""
        return min(_SPARE_NEEDS * self._usual, most) if self._usual <= most else 0.0

    def kept(self, now_s: float, most: float) -> float:
        """What of that is worth keeping of a tenant that asks for nothing."""
        return self.spare(most) if now_s - self._used_at < _KEPT_S else 0.0

    def low(self, now_s: float, most: float) -> float:
        """If less is here, more should be leased already."""
        return max(self.expected(now_s) / 2, min(self._usual, self.spare(most)))

    def goal(self, now_s: float, most: float, most_ahead: float) -> float:
        """And so much should be here then."""
        return min(self.expected(now_s) + self.spare(most), max(self._usual, most_ahead))
