"""Pages that say what a test wants, and replicas as a decision sees them."""

from collections.abc import Callable

from kvplane.directory import (
    Domain,
    HolderId,
    Holdings,
    Keyring,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Segment,
    domain_key,
)
from kvplane.policies import Candidate, ReplicaId

KEYRING = Keyring(b"m" * 32)
PROMPT = Prefix(bytes(36), 1, (Segment(domain_key(KEYRING.salt(Domain("acme", "default")), "m", "", 1), 9),))


class Told(Mirror):
    """What a test says that pages say."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(MemoryPages(), Holdings(), KEYRING.mac_key, lambda holder, served: None, clock)
        self.clock = clock
        self.loads: dict[HolderId, tuple[Load, float]] = {}  # and when they were told

    def say(self, replica: str, load: Load) -> None:
        self.loads[HolderId(replica)] = load, self.clock()
        self._changed(HolderId(replica))

    def load(self, holder: HolderId) -> tuple[Load, float] | None:
        told = self.loads.get(holder)
        return None if told is None else (told[0], self.clock() - told[1])


def row(name: str, mirror: Told, overlay: Overlay) -> Candidate:
    """A replica as a decision sees it."""
    holder = HolderId(name)
    load = overlay.load(holder, mirror.loads[holder][0])
    return Candidate(ReplicaId(name), ongoing=overlay.ongoing(holder), waiting_sequences=load.waiting_sequences)
