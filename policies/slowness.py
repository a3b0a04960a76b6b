"""By how much each replica is slower than its class, from what its prefills took."""

import math
from collections.abc import Mapping

import numpy as np

from .contract import ReplicaId
from .field import Floats

PREFIX = "slowness:"  # of the names in a basis
_KEEP = 0.97  # of what was seen of a replica, with each further outcome of it
_DOUBT = 10.0  # outcomes that count as none slower
_MOST = 4.0  # no outcome counts as further off
_ALIKE = 0.22  # in logarithms: closer to the class than this is the class; a fuller batch is slower by about as much
_REMEMBERED = 4096


class Slowness:
    """A factor for each replica, learned in logarithms so that one slow prefill in ten does not decide."""

    def __init__(self) -> None:
        self._seen: dict[ReplicaId, tuple[float, float]] = {}  # sums of logarithms, and of weights
        self._differ: dict[ReplicaId, float] = {}
        self._replicas: tuple[ReplicaId, ...] | None = None  # the last ones asked about, with what was said of them
        self._told: tuple[Mapping[str, float], Floats | None] = {}, None

    def observe(self, replica: ReplicaId, ratio: float) -> None:
        """Count a prefill that took `ratio` times what is usual."""
        logs, weights = self._seen.pop(replica, (0.0, 0.0))
        log = math.log(min(max(ratio, 1 / _MOST), _MOST))
        self._seen[replica] = logs, weights = _KEEP * logs + log, _KEEP * weights + 1
        mean = logs / (weights + _DOUBT)
        self._set(replica, math.exp(mean) if abs(mean) > _ALIKE else 1.0)
        if len(self._seen) > _REMEMBERED:
            longest_unheard = next(iter(self._seen))
            del self._seen[longest_unheard]
            self._set(longest_unheard, 1.0)

    def of(self, replicas: tuple[ReplicaId, ...]) -> tuple[Mapping[str, float], Floats | None]:
        """What a basis says of those that differ, and a factor for each; None where all are alike."""
        if replicas is not self._replicas:
            basis = {PREFIX + each: self._differ[each] for each in sorted(self._differ.keys() & replicas)}
            self._replicas, self._told = replicas, (basis, factors(basis, replicas))
        return self._told

    def _set(self, replica: ReplicaId, factor: float) -> None:
        if factor == self._differ.get(replica, 1.0):
            return
        self._replicas = None
        if factor == 1.0:
            del self._differ[replica]
        else:
            self._differ[replica] = factor


def factors(basis: Mapping[str, float], replicas: tuple[ReplicaId, ...]) -> Floats | None:
    """What a basis says of each replica, shape (n,); None where it says that all are alike."""
    told = {ReplicaId(name.removeprefix(PREFIX)): each for name, each in basis.items() if name.startswith(PREFIX)}
    if told.keys().isdisjoint(replicas):
        return None
    return np.array([told.get(replica, 1.0) for replica in replicas])
