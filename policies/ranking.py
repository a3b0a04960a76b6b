"""From costs to one replica: the lowest, ties broken fairly, and an order of preference for all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .contract import Candidate, Choice, ReplicaId

_NEVER = 1 << 48  # staler than any count of decisions

_TIE_BREAKS: tuple[tuple[str, Callable[[Candidate], int]], ...] = (
    ("fewer ongoing", lambda each: each.ongoing),
    ("least recently chosen", lambda each: -staleness(each)),
)


@dataclass(frozen=True, slots=True)
class Pick:
    """One of the candidates of lowest cost."""

    candidate: Candidate
    tie: str  # what broke a tie; empty: there was none
    propensity: float


def lowest(field: Sequence[Candidate], scores: Mapping[ReplicaId, float], draw: float) -> Pick:
    """Pick the candidate of lowest cost. `draw`, in [0, 1), decides where nothing else does."""
    best = min(scores[each.replica] for each in field)
    ties = [each for each in field if scores[each.replica] == best]
    if len(ties) == 1:
        return Pick(ties[0], "", 1.0)
    for name, key in _TIE_BREAKS:
        least = min(key(each) for each in ties)
        ties = [each for each in ties if key(each) == least]
        if len(ties) == 1:
            return Pick(ties[0], name, 1.0)
    return Pick(ties[drawn(draw, len(ties))], "drawn", 1.0 / len(ties))


def drawn(draw: float, count: int) -> int:
    """Turn a draw in [0, 1) into an index below `count`."""
    return min(int(draw * count), count - 1)


def staleness(candidate: Candidate) -> int:
    """Count the decisions since a replica was chosen; never is the longest."""
    return candidate.last_chosen or _NEVER


def complete(scores: Mapping[ReplicaId, float], candidates: Sequence[Candidate]) -> dict[ReplicaId, float]:
    """Give every candidate a cost: those set aside stand behind all others."""
    behind = max(scores.values()) + 1.0
    return {each.replica: scores.get(each.replica, behind) for each in candidates}


def ranked(choice: Choice) -> tuple[ReplicaId, ...]:
    """Order all candidates: the chosen one, then by rising cost, equals by replica id."""
    others = (replica for replica in choice.scores if replica != choice.replica)
    return (choice.replica, *sorted(others, key=lambda replica: (choice.scores[replica], replica)))
