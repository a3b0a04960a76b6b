"""Candidates come back from JSON as they were, whichever way they were written."""

import json

import msgspec
import numpy as np
import pytest

from kvplane.controlplane.recorded_candidates import decoded, encoded
from kvplane.policies import Candidate, ReplicaId
from kvplane.policies.field import COLUMNS, Field

A = Candidate(ReplicaId("a"), **{name: 10 + place for place, name in enumerate(COLUMNS)}, known=False, fresh=True)
B = Candidate(ReplicaId("b"), last_chosen=7, known=True, fresh=False)


def test_each_field_is_a_list_in_the_order_of_replicas() -> None:
    written = json.loads(encoded([B, A]))

    assert (written["replica"], written["gpu_tokens"], written["last_chosen"]) == (["a", "b"], [10, 0], [20, 7])
    assert (written["known"], written["fresh"]) == ([False, True], [True, False])
    assert written.keys() == set(Candidate.__struct_fields__)


@pytest.mark.parametrize("candidates", [(), (A,), (A, B)])
def test_what_is_encoded_is_decoded(candidates: tuple[Candidate, ...]) -> None:
    assert decoded(encoded(candidates)) == decoded(encoded(Field.of(candidates))) == candidates


def test_an_object_for_each_candidate_is_read_too() -> None:
    assert decoded(msgspec.json.encode([A, B]).decode()) == (A, B)


def test_what_is_not_told_has_its_default_and_what_is_not_known_is_passed_over() -> None:
    assert decoded('{"replica": ["a"], "gpu_tokens": [5], "warmth": [0.5]}') == (Candidate(ReplicaId("a"), 5),)


@pytest.mark.parametrize("recorded", ["5", '{"replica": [5]}', '{"replica": ["a"], "gpu_tokens": ["many"]}'])
def test_what_is_of_another_kind_is_refused(recorded: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(recorded)


def test_a_part_of_a_field_is_written_as_that_part() -> None:
    assert decoded(encoded(Field.of([A, B]).at(np.array([1])))) == (B,)
