"""What a router knows when it decides: the directory, its own tickets on top of it, and who is alive."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..directory import HolderId, Holdings, Mirror, Overlay, Prefix
from ..policies import Candidate, ReplicaId
from .roster import Roster

_SILENT_AFTER_S = 3.0  # a page this old says little about its replica's load
_NOTHING = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Sight:
    """One router's view; `look` turns it into what a policy may see."""

    holdings: Holdings
    mirror: Mirror
    overlay: Overlay
    roster: Roster

    def look(self, prefix: Prefix, since_chosen: dict[str, int]) -> Sequence[Candidate]:
        """Every live replica with what it could reuse of this prompt and what it has to do."""
        held, expected = self.holdings.find(prefix).table(), self.overlay.extents(prefix)
        return [
            self._candidate(
                HolderId(replica),
                held.get(HolderId(replica), _NOTHING),
                expected.get(HolderId(replica), 0),
                prefix.block_tokens,
                since_chosen.get(replica, 0),
            )
            for replica in self.roster.live
        ]

    def blind(self, since_chosen: dict[str, int]) -> Sequence[Candidate]:
        """The live replicas when nothing is known of them but this router's own tickets."""
        return [self._unknown(HolderId(replica), since_chosen.get(replica, 0)) for replica in self.roster.live]

    def age_ms(self, replica: str | None) -> float:
        """How old the chosen replica's page is here; 0 where there is none."""
        heard = self.mirror.load(HolderId(replica)) if replica else None
        return heard[1] * 1e3 if heard else 0.0

    def _candidate(
        self, holder: HolderId, held: tuple[int, int, int], expected: int, block_tokens: int, last_chosen: int
    ) -> Candidate:
        heard = self.mirror.load(holder)
        if heard is None:
            return self._unknown(holder, last_chosen)
        published, age_s = heard
        load = self.overlay.load(holder, published)
        gpu, cpu, disk = held
        return Candidate(
            replica=ReplicaId(holder),
            gpu_tokens=max(gpu, expected) * block_tokens,
            cpu_tokens=max(cpu, expected) * block_tokens,
            disk_tokens=max(disk, expected) * block_tokens,
            waiting_prefill_tokens=load.waiting_prefill_tokens,
            running_sequences=load.running_sequences,
            decode_blocks=load.decode_blocks,
            free_blocks=load.free_blocks,
            total_blocks=load.total_blocks,
            ongoing=self.overlay.ongoing(holder),
            last_chosen=last_chosen,
            fresh=age_s < _SILENT_AFTER_S,
            expected_tokens=max(expected - disk, 0) * block_tokens,
        )

    def _unknown(self, holder: HolderId, last_chosen: int) -> Candidate:
        ongoing = self.overlay.ongoing(holder)
        return Candidate(ReplicaId(holder), ongoing=ongoing, last_chosen=last_chosen, known=False)
