"""What a router knows when it decides: the directory, its own tickets on top of it, and who is alive."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from ..directory import LEVELS, DomainTag, HolderId, Holdings, Mirror, Overlap, Overlay, Prefix, Trust
from ..policies import Candidate, ReplicaId
from ..policies.field import EXPECTED, HELD, Field, Ints
from .loads import Loads
from .roster import Roster


class Sight:
    """One router's view; `look` turns it into what a policy may see."""

    def __init__(self, holdings: Holdings, mirror: Mirror, overlay: Overlay, roster: Roster) -> None:
        self.holdings = holdings
        self.mirror = mirror
        self.overlay = overlay
        self.roster = roster
        self.trust = Trust()
        self._claims: Ints = np.empty(0, np.int64)  # tokens that pages told of at the last look
        self._loads = Loads(mirror, overlay, roster)
        self._slots: Sequence[HolderId | None] = ()  # of the holdings, as they were when `_cells` was made
        self._slots_of: Sequence[ReplicaId] = ()  # the replicas, likewise
        self._cells: Ints = np.empty((len(LEVELS), 0), np.int64)  # where in an overlap's array each replica stands

    def look(self, prefix: Prefix, decision: int) -> Sequence[Candidate]:
        """Every live replica with what it could reuse of this prompt and what it has to do, for decision number so.

        What is held is exact for all, not for the deepest few: whoever is shown with less than it has is passed over,
        and a copy is made of what was there.
        """
        loads = self._loads
        loads.refresh()
        if not loads.replicas:
            return ()
        numbers = loads.numbers(decision)
        self._hold(numbers[HELD], self.holdings.find(prefix), prefix.block_tokens)
        self._claims = numbers[HELD.stop - 1].copy()
        if (factors := self.trust.factors(loads.holders)) is not None:
            numbers[HELD] = numbers[HELD] * factors
        coming = loads.column(self.overlay.extents(prefix))
        if coming is not None:
            _expect(numbers, coming * prefix.block_tokens)
        if not loads.all_known:
            numbers[HELD] *= loads.known
            numbers[EXPECTED] *= loads.known
        return Field(loads.replicas, numbers, loads.known.copy(), loads.fresh)

    def blind(self, decision: int) -> Sequence[Candidate]:
        """The live replicas when nothing is known of them but this router's own tickets."""
        rows = [
            Candidate(
                ReplicaId(replica),
                ongoing=self.overlay.ongoing(HolderId(replica)),
                last_chosen=self._loads.last_chosen(replica, decision),
                known=False,
            )
            for replica in self.roster.live
        ]
        return Field.of(rows) if rows else ()

    def claimed(self, replica: str) -> int:
        """The tokens of the last prompt looked up that a replica has by its own account, believed or not."""
        return int(self._claims[bisect_left(self._loads.replicas, replica)])

    def share(self, tag: DomainTag) -> float:
        """The part of all replicas' blocks that a domain takes, copies counted; 0 while it is not known."""
        total = self._loads.total_blocks
        return self.holdings.resident(tag) / total if total else 0.0

    def chose(self, replica: str, decision: int) -> None:
        """Note that a decision was for a replica. Decisions are numbered from 1."""
        self._loads.chose(replica, decision)

    def age_ms(self, replica: str | None) -> float:
        """How old the chosen replica's page is here; 0 where there is none."""
        heard = self.mirror.load(HolderId(replica)) if replica else None
        return heard[1] * 1e3 if heard else 0.0

    def _hold(self, held: Ints, overlap: Overlap, block_tokens: int) -> None:
        """Fill in the tokens that each replica could reuse at each level; `held`, (levels, replicas), has zeros."""
        if not overlap.ends:
            return
        slots, replicas = overlap.slots, self._loads.replicas
        if slots is not self._slots or replicas is not self._slots_of:
            numbers = {holder: number for number, holder in enumerate(slots) if holder is not None}
            rows = [numbers.get(HolderId(replica), len(slots)) for replica in replicas]  # the last row is nobody's
            levels = np.arange(len(LEVELS))[:, np.newaxis]
            self._cells, self._slots, self._slots_of = np.array(rows) * len(LEVELS) + levels, slots, replicas
        overlap.array(block_tokens).take(self._cells, out=held, mode="clip")  # else numpy copies, to check places


def _expect(numbers: Ints, coming: Ints) -> None:
    """Let tokens that tickets under way will leave count as held in the nearest tier, and mark those in no tier yet."""
    held = numbers[HELD]
    numbers[EXPECTED] = np.maximum(coming - held[-1], 0)
    np.maximum(held, coming, out=held)
