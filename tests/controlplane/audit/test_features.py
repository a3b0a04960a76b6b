"""Features of samples, and which way each hints at a hit."""

import pytest

from kvplane.controlplane.audit.features import Column, Feature, columns
from kvplane.controlplane.audit.parties import Level
from kvplane.controlplane.audit.placements import Placement
from kvplane.controlplane.audit.procedure import Sample
from kvplane.controlplane.audit.reply import Reply
from kvplane.controlplane.audit.stats import floats

SAMPLES = [
    Sample(Level.WITHIN, True, Reply("v1", 90.0, 9, 0), Reply("a1", 20.0, 9, 8)),
    Sample(Level.WITHIN, False, Reply("v2", 91.0, 9, 0), Reply("a2", 95.0, 9, 0)),
]
PLACED = {
    "v1": Placement("r1", 7, 80.0),
    "a1": Placement("r1", 3, 12.0),
    "v2": Placement("r1", 8, 81.0),
    "a2": Placement("r2", 0, 85.0),
}


def test_a_client_sees_the_attackers_time_and_cached_tokens() -> None:
    seen = {each: (column.hits.tolist(), column.misses.tolist()) for each, column in columns(SAMPLES, None).items()}

    assert seen == {Feature.TTFT: ([20.0], [95.0]), Feature.CACHED_TOKENS: ([8.0], [0.0])}


def test_the_operator_sees_placements_as_well() -> None:
    seen = {each: (column.hits.tolist(), column.misses.tolist()) for each, column in columns(SAMPLES, PLACED).items()}

    assert list(seen) == list(Feature)
    assert seen[Feature.SERVER_TTFT] == ([12.0], [85.0])
    assert seen[Feature.REPLICA] == ([1.0], [0.0])
    assert seen[Feature.QUEUE] == ([3.0], [0.0])


@pytest.mark.parametrize("feature", Feature)
def test_a_shared_cache_makes_the_hit_smaller_whatever_the_feature(feature: Feature) -> None:
    hits, misses = feature.oriented(columns(SAMPLES, PLACED)[feature])

    assert hits[0] < misses[0]


def test_turning_a_column_leaves_it_as_it_is() -> None:
    column = Column(floats([1]), floats([2]))
    Feature.QUEUE.oriented(column)

    assert (column.hits[0], column.misses[0]) == (1, 2)
