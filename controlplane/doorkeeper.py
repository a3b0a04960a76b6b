"""Which prefixes come again: a count-min sketch of what was seen lately, in 64 KiB whatever comes."""

_ROWS = 4
_WIDTH_BITS = 14
_WIDTH = 1 << _WIDTH_BITS
_WINDOW = 6144  # sightings; a name that none of so many others was is taken for a known one in 1 % of cases at most
_MOST = 255
_HALVES = bytes(count // 2 for count in range(_MOST + 1))


class Doorkeeper:
    """Counts sightings of prefixes' names, never too few within a window, now and then too many (Cormode, 2005).

    Only the lowest of a name's counters rise (Estan, 2002). After each window all are halved, so what was seen once
    is forgotten, and what is seen often stays known (Einziger, TinyLFU, 2017). Names are random to whoever asks, their
    key being a domain's, so their own bits are the places.
    """

    def __init__(self) -> None:
        self._counts = bytearray(_ROWS * _WIDTH)
        self._sightings = 0

    def seen(self, name: int) -> int:
        """How often a name was seen lately, this time included; 255 is 255 or more."""
        if self._sightings == _WINDOW:
            self._counts = self._counts.translate(_HALVES)
            self._sightings = 0
        self._sightings += 1
        counts = self._counts
        places = [row << _WIDTH_BITS | name >> row * _WIDTH_BITS & _WIDTH - 1 for row in range(_ROWS)]
        before = min(counts[place] for place in places)
        if before < _MOST:
            for place in places:
                if counts[place] == before:
                    counts[place] = before + 1
        return min(_MOST, before + 1)
