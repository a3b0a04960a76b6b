"""The few replicas that a tenant over its limit is confined to."""

from collections.abc import Sequence

import xxhash

from ..policies import ReplicaId

_PART = 8  # one replica in so many


def slice_of(tenant: str, replicas: Sequence[ReplicaId], count: int | None = None) -> Sequence[ReplicaId]:
    """The first `count` by rendezvous hash, an eighth of them and one at least if not given.

    The same in every router, whatever the order of `replicas`; one that comes or goes changes one place at most
    (Thaler and Ravishankar, 1998).
    """
    seed = xxhash.xxh3_64_intdigest(tenant)
    wanted = max(1, len(replicas) // _PART) if count is None else count
    return sorted(replicas, key=lambda replica: (xxhash.xxh3_64_intdigest(replica, seed), replica))[:wanted]
