"""Where requests went, once the store of decisions knows how they ended."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kvplane.controlplane.audit.errors import AuditFailed
from kvplane.controlplane.audit.placements import Placement, placements
from kvplane.controlplane.decisions import DecisionRow
from kvplane.tests.controlplane.audit.made_deployment import row


def test_the_queue_is_that_of_the_replica_that_was_chosen() -> None:
    rows = [row("a", "r1", 20.0, waiting=2, ongoing=3), row("b", "r2", 30.0)]

    assert placements(lambda: rows, ["a", "b"], lambda _: None) == {
        "a": Placement("r1", 5, 20.0),
        "b": Placement("r2", 0, 30.0),
    }


def test_who_served_counts_more_than_who_was_chosen() -> None:
    moved = replace(row("a", "r1", 20.0, ongoing=4), served_by="r2")

    assert placements(lambda: [moved], ["a"], lambda _: None) == {"a": Placement("r2", 4, 20.0)}


def test_outcomes_are_waited_for() -> None:
    slept: list[float] = []

    def find() -> Sequence[DecisionRow]:
        return [row("a", "r1", 20.0 if len(slept) == 3 else None)]

    assert placements(find, ["a"], slept.append)["a"].server_ttft_ms == 20.0
    assert len(slept) == 3


def test_requests_that_stay_away_are_counted_and_told_after_a_bounded_wait() -> None:
    slept: list[float] = []
    rows = [row("a", "r1", 20.0), row("b", None, 20.0), row("c", "r1", None)]

    with pytest.raises(AuditFailed, match=r"3 of 4 requests.*retention_rows"):
        placements(lambda: rows, ["a", "b", "c", "d"], slept.append)
    assert sum(slept) == 30
