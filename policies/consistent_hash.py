"""What belongs together stays together: hashed to a replica, unless that has more than its share of requests."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from random import Random

import numpy as np
import pydantic
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .contract import Candidate, Choice, Outcome, ReplicaId, RoutedRequest
from .features import credible, load_tokens
from .field import Floats
from .ranking import complete, lowest

_WORD = (1 << 64) - 1
_FLEETS = 16  # whose hashes are kept; replicas come and go far less often than requests


class ConsistentHashSettings(BaseModel):
    """How uneven loads may become for the sake of staying together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    load_factor: float = pydantic.Field(default=1.25, ge=1, le=1e6)  # most requests on a replica, over the average


class ConsistentHash:
    """Rendezvous hashing, so that a replica that leaves moves nothing but its own, under bounded loads.

    Sources: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998; Mirrokni, Thorup and
    Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016.
    """

    def __init__(self, settings: ConsistentHashSettings, random: Random) -> None:
        self._settings = settings
        self._random = random

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        """Pick the request's first replica that has room; without an affinity the least loaded."""
        return decide({"load_factor": self._settings.load_factor, "draw": self._random.random()}, request, candidates)

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        """A hash is what it is."""


def decide(basis: Mapping[str, float], request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
    """Pick the lowest cost: how far along its ring a replica stands, below 1, and 1 more where it is full.

    Without an affinity it is the load, as a share of the busiest replica's.
    """
    field = credible(candidates)
    if request.affinity:
        requests = np.maximum(field.running_sequences, field.ongoing)
        room = ceil(basis["load_factor"] * (int(requests.sum()) + 1) / len(field))
        full = requests >= room
        places = _places(field.replicas, request.affinity)
        costs = places + full
        reason = "next on the ring: first is full" if full[places.argmin()] else "first on the ring"
    else:
        loads = load_tokens(field)
        costs = loads / (loads.max() + 1)
        reason = "no affinity: least loaded"
    pick = lowest(field, costs, basis["draw"])
    if len(candidates) == 1:
        reason = "only candidate"
    elif pick.tie:
        reason = f"equal cost: tie, {pick.tie}"
    scores = complete(field, costs, candidates)
    return Choice(field.replicas[pick.place], reason, pick.propensity, scores, basis=basis)


def _places(replicas: tuple[ReplicaId, ...], affinity: int) -> Floats:
    """Hash each replica with the affinity to a place in [0, 1): Stafford's mix of 64 bits, his variant 13."""
    words = _hashes(replicas) ^ np.uint64(affinity & _WORD)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((words ^ (words >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=_FLEETS)
def _hashes(replicas: tuple[ReplicaId, ...]) -> NDArray[np.uint64]:
    return np.array([xxhash.xxh3_64_intdigest(replica) for replica in replicas], np.uint64)
