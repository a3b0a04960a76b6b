"""From costs to one replica: the lowest, ties broken fairly, and an order of preference for all."""

from collections.abc import Sequence

import msgspec
import numpy as np

from .contract import Candidate, Choice, ReplicaId
from .field import Costs, Field, Floats, Ints

_NEVER = 1 << 48  # staler than any count of decisions


class Pick(msgspec.Struct, frozen=True):
    """One of the candidates of lowest cost, by its place in the field."""

    place: int
    tie: str  # what broke a tie; empty: there was none
    propensity: float


def lowest(field: Field, costs: Floats, draw: float) -> Pick:
    """Pick the candidate of lowest cost. `draw`, in [0, 1), decides where nothing else does."""
    ties = (costs == costs[costs.argmin()]).nonzero()[0]
    if len(ties) == 1:
        return Pick(int(ties[0]), "", 1.0)
    for name, keys in (("fewer ongoing", field.ongoing), ("least recently chosen", -staleness(field))):
        least = keys[ties]
        ties = ties[least == least.min()]
        if len(ties) == 1:
            return Pick(int(ties[0]), name, 1.0)
    return Pick(int(ties[drawn(draw, len(ties))]), "drawn", 1.0 / len(ties))


def drawn(draw: float, count: int) -> int:
    """Turn a draw in [0, 1) into an index below `count`."""
    return min(int(draw * count), count - 1)


def staleness(field: Field) -> Ints:
    """Count the decisions since each replica was chosen; never is the longest."""
    return np.where(field.last_chosen == 0, _NEVER, field.last_chosen)


def complete(field: Field, costs: Floats, candidates: Sequence[Candidate]) -> Costs:
    """Give every candidate a cost: those set aside stand behind all others."""
    if len(field) == len(candidates):
        return Costs(field.replicas, costs)
    found = dict(zip(field.replicas, costs.tolist(), strict=True))
    behind = max(found.values()) + 1.0
    every = Field.of(candidates).replicas
    return Costs(every, np.array([found.get(replica, behind) for replica in every]))


def ranked(choice: Choice, most: int | None = None) -> tuple[ReplicaId, ...]:
    """Order all candidates, or the best of them: the chosen one, then by rising cost, equals by replica id."""
    costs = choice.scores
    if isinstance(costs, Costs):
        places = _cheapest(costs.array, most or len(costs))
        order = [costs.replicas[place] for place in places[np.argsort(costs.array[places], kind="stable")].tolist()]
    else:
        order = sorted(costs, key=lambda replica: (costs[replica], replica))
    return (choice.replica, *(replica for replica in order if replica != choice.replica))[:most]


def _cheapest(costs: Floats, most: int) -> Ints:
    """The places of the lowest costs: so many, and whatever costs the same as the last of them."""
    if most >= len(costs):
        return np.arange(len(costs))
    return np.flatnonzero(costs <= np.partition(costs, most - 1)[most - 1])
