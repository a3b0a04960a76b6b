"""What may tell a hit from a miss: each feature a column of numbers, one for every sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .placements import Placement
from .procedure import Sample
from .stats import Floats, floats


@dataclass(frozen=True, slots=True)
class Column:
    """One feature's values."""

    hits: Floats
    misses: Floats


class Feature(StrEnum):
    """The last three need the operator's store of decisions."""

    TTFT = "ttft"  # by the client's clock
    CACHED_TOKENS = "cached_tokens"  # as its usage says
    SERVER_TTFT = "server_ttft"  # by the replica's clock
    REPLICA = "replica"  # 1 if it is the victim's
    QUEUE = "queue"  # requests at the replica that was chosen

    def oriented(self, column: Column) -> tuple[Floats, Floats]:
        """Hits and misses so that a smaller value hints at a hit: a cache makes times less, and all else more."""
        is_time = self in (Feature.TTFT, Feature.SERVER_TTFT)
        return (column.hits, column.misses) if is_time else (-column.hits, -column.misses)


Columns = Mapping[Feature, Column]
Read = Callable[[Sample], float]


def columns(samples: Sequence[Sample], placed: Mapping[str, Placement] | None) -> Columns:
    """The features of one level's samples; `placed` by decision id, where the operator's store is at hand."""
    readers: dict[Feature, Read] = {
        Feature.TTFT: lambda sample: sample.attacker.ttft_ms,
        Feature.CACHED_TOKENS: lambda sample: sample.attacker.cached_tokens,
    }
    if placed is not None:
        readers |= _of_placements(placed)
    return {feature: _column(samples, read) for feature, read in readers.items()}


def _of_placements(placed: Mapping[str, Placement]) -> dict[Feature, Read]:
    return {
        Feature.SERVER_TTFT: lambda sample: placed[sample.attacker.decision].server_ttft_ms,
        Feature.REPLICA: lambda sample: (
            placed[sample.attacker.decision].replica == placed[sample.victim.decision].replica
        ),
        Feature.QUEUE: lambda sample: placed[sample.attacker.decision].queue,
    }


def _column(samples: Sequence[Sample], read: Read) -> Column:
    return Column(
        floats([read(sample) for sample in samples if sample.hit]),
        floats([read(sample) for sample in samples if not sample.hit]),
    )
