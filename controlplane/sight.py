"""What a router knows when it decides: the directory, its own tickets on top of it, and who is alive."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..directory import HolderId, Holdings, Load, Mirror, Overlap, Overlay, Prefix
from ..policies import Candidate, ReplicaId
from .roster import Roster

_SILENT_AFTER_S = 3.0  # a page this old says little about its replica's load


@dataclass(frozen=True, slots=True)
class Sight:
    """One router's view; `look` turns it into what a policy may see."""

    holdings: Holdings
    mirror: Mirror
    overlay: Overlay
    roster: Roster

    def look(self, prefix: Prefix, prompt_tokens: int, since_chosen: dict[str, int]) -> Sequence[Candidate]:
        """Every live replica with what it could reuse of this prompt and what it has to do."""
        overlap = self.holdings.find(prefix)
        return [
            self._candidate(
                HolderId(replica), overlap, prefix.block_tokens, prompt_tokens, since_chosen.get(replica, 0)
            )
            for replica in self.roster.live
        ]

    def blind(self, since_chosen: dict[str, int]) -> Sequence[Candidate]:
        """The live replicas when nothing is known of them but this router's own tickets."""
        return [
            Candidate(
                ReplicaId(replica),
                ongoing=self.overlay.ongoing(HolderId(replica)),
                last_chosen=since_chosen.get(replica, 0),
                known=False,
            )
            for replica in self.roster.live
        ]

    def age_ms(self, replica: str | None) -> float:
        """How old the chosen replica's page is here; 0 where there is none."""
        seen = self.mirror.seen(HolderId(replica)) if replica else None
        return seen.age_s * 1e3 if seen else 0.0

    def _candidate(
        self, holder: HolderId, overlap: Overlap, block_tokens: int, prompt_tokens: int, last_chosen: int
    ) -> Candidate:
        seen = self.mirror.seen(holder)
        load = self.overlay.load(holder, seen.load if seen else Load())
        gpu, cpu, disk = (min(blocks * block_tokens, prompt_tokens) for blocks in overlap.extents(holder))
        return Candidate(
            replica=ReplicaId(holder),
            gpu_tokens=gpu,
            cpu_tokens=cpu,
            disk_tokens=disk,
            waiting_prefill_tokens=load.waiting_prefill_tokens,
            running_sequences=load.running_sequences,
            decode_blocks=load.decode_blocks,
            free_blocks=load.free_blocks,
            total_blocks=load.total_blocks,
            ongoing=self.overlay.ongoing(holder),
            last_chosen=last_chosen,
            known=seen is not None,
            fresh=seen is not None and seen.age_s < _SILENT_AFTER_S,
        )
