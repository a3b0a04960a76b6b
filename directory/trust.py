"""How far each holder's promises are kept: what it was said to have of prompts sent there, against what was reused."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import numpy as np
from numpy.typing import NDArray

from .ids import HolderId

_ALLOWED = 0.3  # of what is promised may be lost: an honest cache loses a tenth, one that claims it double loses half
_SUSPECT = 13.5  # promises lost in excess of that; twenty whole ones in a row, and no honest burst is so long
_MOST = 30.0  # whoever lied for long is trusted again after a hundred promises kept
_KEEP = 0.9  # of the average, with each further promise
_WORTH = 0.5  # a suspect that keeps less is believed nothing: any hope at all would bring it what nobody else has
_RISE = 0.01  # of a suspect's standing with each promise, at most
_WHOLE_TOKENS = 64  # a smaller promise weighs less: what becomes of one block says little
_REMEMBERED = 4096
_PEERS, _FEWEST_PEERS = 32, 3  # others that a holder is measured by, the latest heard of; fewer say nothing


@dataclass(slots=True)
class _Record:
    excess: float = 0.0
    kept: float = 1.0  # of what is promised, on average of the latest twenty
    suspect: bool = False
    standing: float = 1.0

    @property
    def factor(self) -> float:
        return self.standing if self.standing >= _WORTH else 0.0


class Trust:
    """One router's, from its own decisions. Whoever is not suspected is trusted wholly, so honest fleets pay nothing.

    A holder is suspected once its lost promises, each less what is allowed, add up to what chance and bursts do not
    (a cumulative sum: Page, Continuous Inspection Schemes, 1954). It is then worth what it keeps, falling at once and
    rising slowly, until the sum is back at nothing; nothing if that is less than half, for fifty promises at least.
    Only too much promised counts; too little earns no credit.

    Where prompts queue for seconds much is evicted before they are served, and honest caches lose half of their
    promises. So what others lose is allowed too, of whom most are taken to be honest.
    """

    def __init__(self) -> None:
        self._records: dict[HolderId, _Record] = {}  # who was heard of last stands last
        self._suspects: dict[HolderId, float] = {}
        self._told: tuple[Sequence[HolderId], NDArray[np.float64] | None] | None = None

    def observe(self, holder: HolderId, claimed: int, reported: int) -> None:
        """Count a prompt of which a holder had `claimed` tokens by its own account, and then reused `reported`.

        The claim is what its page said: without the factor, and without tokens that no page told of.
        """
        if claimed <= 0:
            return
        record = self._records.pop(holder, None) or _Record()
        allowed = _ALLOWED + self._lost_by_others
        self._records[holder] = record
        _weigh(record, min(max(reported, 0), claimed) / claimed, min(1.0, claimed / _WHOLE_TOKENS), allowed)
        self._set(holder, record.factor)
        if len(self._records) > _REMEMBERED:
            self.forget(next(iter(self._records)))

    def factor(self, holder: HolderId) -> float:
        """What part of a holder's claims to believe: 1.0 exactly while it is not suspected."""
        return self._suspects.get(holder, 1.0)

    def factors(self, holders: Sequence[HolderId]) -> NDArray[np.float64] | None:
        """The factor of each, shape (n,); None where all are 1. Asking twice about one sequence costs nothing."""
        if not self._suspects:
            return None
        if self._told is None or self._told[0] is not holders:
            alike = self._suspects.keys().isdisjoint(holders)
            self._told = holders, None if alike else np.array([self.factor(holder) for holder in holders])
        return self._told[1]

    def forget(self, holder: HolderId) -> None:
        """Know nothing of a holder."""
        self._records.pop(holder, None)
        self._set(holder, 1.0)

    @property
    def _lost_by_others(self) -> float:
        """The part of its promises that the median one of the records has lost lately."""
        kept = [record.kept for record in islice(reversed(self._records.values()), _PEERS)]
        return 1.0 - median(kept) if len(kept) >= _FEWEST_PEERS else 0.0

    def _set(self, holder: HolderId, factor: float) -> None:
        if factor == self.factor(holder):
            return
        self._told = None
        if factor == 1.0:
            del self._suspects[holder]
        else:
            self._suspects[holder] = factor


def _weigh(record: _Record, share: float, weight: float, allowed: float) -> None:
    """Count a promise of which a share was kept."""
    record.kept += (1.0 - _KEEP) * weight * (share - record.kept)
    record.excess = min(_MOST, max(0.0, record.excess + weight * (1.0 - share - allowed)))
    if record.excess >= _SUSPECT:
        record.suspect = True
    elif not record.excess:
        record.suspect = False
    worth = record.kept if record.kept >= _WORTH else 0.0
    record.standing = min(worth, record.standing + _RISE * weight) if record.suspect else 1.0
