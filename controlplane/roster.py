"""Which replicas are alive, as Ray tells its request router, for the decision made in the same process."""

import threading
from collections import OrderedDict
from collections.abc import Collection

_REMEMBERED = 4096

_rosters: dict[str, "Roster"] = {}  # the one place where Ray's request router and the ingress of a process can meet


def roster_of(deployment: str) -> "Roster":
    """The roster of a deployment in this process, made on first use by either side."""
    return _rosters.setdefault(deployment, Roster())


class Roster:
    """Written by Ray's routing thread and by the ingress loop; reading takes no lock."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._live: tuple[str, ...] = ()
        self._dead: frozenset[str] = frozenset()
        self._sent: OrderedDict[str, str] = OrderedDict()

    @property
    def live(self) -> tuple[str, ...]:
        """Replica ids that may be chosen, in a stable order."""
        return self._live

    def update(self, replicas: Collection[str]) -> None:
        """Take Ray's replica set as it is; the dead stay dead, since ids are never used again."""
        with self._writing:
            self._dead &= frozenset(replicas)
            self._live = tuple(sorted(frozenset(replicas) - self._dead))

    def bury(self, replica: str) -> None:
        """A request found this replica's process gone: choose it no more, whatever Ray still believes."""
        with self._writing:
            self._dead |= {replica}
            self._live = tuple(other for other in self._live if other != replica)

    def is_dead(self, replica: str) -> bool:
        return replica in self._dead

    def sent(self, decision: str, replica: str) -> None:
        """Note where a request really went; the latest few thousand are remembered."""
        with self._writing:
            self._sent[decision] = replica
            while len(self._sent) > _REMEMBERED:
                self._sent.popitem(last=False)

    def whereabouts(self, decision: str) -> str | None:
        """Where a request was last sent, once it has been."""
        return self._sent.get(decision)
