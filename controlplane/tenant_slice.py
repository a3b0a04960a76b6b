"""The few replicas that a tenant over its limit is confined to."""

from collections.abc import Sequence
from functools import lru_cache

import xxhash

from ..policies import ReplicaId

_PART = 8  # one replica in so many
_KEPT = 1024  # slices, each with the fleet it is of


def slice_of(tenant: str, replicas: Sequence[ReplicaId], count: int | None = None) -> Sequence[ReplicaId]:
    """The first `count` by rendezvous hash, an eighth of them and one at least if not given.

    The same in every router, whatever the order of `replicas`; one that comes or goes changes one place at most
    (Thaler and Ravishankar, 1998). Asking again while the fleet is the same costs a look-up.
    """
    return _slice(tenant, tuple(replicas), max(1, len(replicas) // _PART) if count is None else count)


@lru_cache(_KEPT)
def _slice(tenant: str, replicas: tuple[ReplicaId, ...], count: int) -> tuple[ReplicaId, ...]:
    seed = xxhash.xxh3_64_intdigest(tenant)
    ranked = sorted(replicas, key=lambda replica: (xxhash.xxh3_64_intdigest(replica, seed), replica))
    return tuple(ranked[:count])
