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
        self.basis: dict[str, float] = {}  # of those that differ, as a choice records it
        self._replicas: tuple[ReplicaId, ...] | None = None
        self._factors: Floats | None = None

    def observe(self, replica: ReplicaId, ratio: float) -> None:
        """Count a prefill that took `ratio` times what is usual."""
        logs, weights = self._seen.pop(replica, (0.0, 0.0))
        log = math.log(min(max(ratio, 1 / _MOST), _MOST))
        self._seen[replica] = logs, weights = _KEEP * logs + log, _KEEP * weights + 1
        if len(self._seen) > _REMEMBERED:
            self.basis.pop(PREFIX + next(iter(self._seen)), None)
            del self._seen[next(iter(self._seen))]
        mean, name = logs / (weights + _DOUBT), PREFIX + replica
        factor = math.exp(mean) if abs(mean) > _ALIKE else 1.0
        if factor != self.basis.get(name, 1.0):
            self._replicas = None
            if factor == 1.0:
                del self.basis[name]
            else:
                self.basis[name] = factor

    def factors(self, replicas: tuple[ReplicaId, ...]) -> Floats | None:
        """One for each replica; None where all are alike."""
        if replicas is not self._replicas:
            self._replicas, self._factors = replicas, factors(self.basis, replicas)
        return self._factors


def factors(basis: Mapping[str, float], replicas: tuple[ReplicaId, ...]) -> Floats | None:
    """What a basis says of each replica, shape (n,); None where it says that all are alike."""
    told = {name.removeprefix(PREFIX): factor for name, factor in basis.items() if name.startswith(PREFIX)}
    if told.keys().isdisjoint(replicas):
        return None
    return np.array([told.get(replica, 1.0) for replica in replicas])
