"""Candidates as columns say what the rows said."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.policies import Candidate, ReplicaId
from kvplane.policies.field import COLUMNS, Costs, Field

COUNTS = st.integers(-1, 1 << 61)


@st.composite
def rows(draw: st.DrawFn) -> list[Candidate]:
    ids = draw(st.lists(st.text("abcdef", min_size=1), unique=True, max_size=6))
    return [
        Candidate(
            ReplicaId(name),
            known=draw(st.booleans()),
            fresh=draw(st.booleans()),
            **dict(zip(COLUMNS, draw(st.tuples(*[COUNTS] * len(COLUMNS))), strict=True)),
        )
        for name in ids
    ]


@given(rows())
def test_rows_come_back_as_they_were_by_rising_id(given_rows: list[Candidate]) -> None:
    field = Field.of(given_rows)

    assert list(field) == sorted(given_rows, key=lambda row: row.replica)
    assert Field.of(field) is field


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 0.5, 1 << 63, -(1 << 70)])
def test_what_no_column_can_hold_is_minus_one(number: float) -> None:
    # The contract says int; a broken page may say anything.
    row = Candidate(ReplicaId("a"), gpu_tokens=number)  # type: ignore[arg-type]

    assert Field.of([row]).gpu_tokens.tolist() == [-1]


def test_every_column_is_named_as_the_row_names_it() -> None:
    row = Candidate(ReplicaId("a"), known=True, fresh=True, **{name: place for place, name in enumerate(COLUMNS)})
    field = Field.of([row])

    assert [getattr(field, name).tolist() for name in COLUMNS] == [[place] for place in range(len(COLUMNS))]


def test_some_places_are_a_field_of_their_own_in_the_order_asked_for() -> None:
    field = Field.of([Candidate(ReplicaId(name), ongoing=count) for count, name in enumerate("abc")])

    assert [(each.replica, each.ongoing) for each in field.at(np.array([2, 0]))] == [("c", 2), ("a", 0)]
    assert [each.replica for each in field[1:]] == ["b", "c"]


def test_one_replica_is_found_among_all() -> None:
    field = Field.of([Candidate(ReplicaId(name), ongoing=count) for count, name in enumerate("ace")])

    assert [field.row(name) for name in "ace"] == list(field)
    assert [field.row(name) for name in ("", "b", "d", "f")] == [None] * 4
    assert Field.of(()).row("a") is None


def test_costs_are_read_by_replica() -> None:
    costs = Costs((ReplicaId("a"), ReplicaId("b")), np.array([2.0, 1.0]))

    assert (dict(costs), costs[ReplicaId("b")], len(costs)) == ({"a": 2.0, "b": 1.0}, 1.0, 2)
    assert list(costs.items()) == [("a", 2.0), ("b", 1.0)]
    with pytest.raises(KeyError):
        costs[ReplicaId("c")]
