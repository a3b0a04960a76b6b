"""Decisions measured: a row for each fleet and kind of prompt that can be, and never over wrong candidates."""

from dataclasses import replace

import pytest

from kvplane.tests.bench import decide as decide_module
from kvplane.tests.bench.decide import decide
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.forest import Forest, Prompt


def test_every_fleet_and_every_kind_of_prompt_that_can_be_is_a_row() -> None:
    rows = decide((8, 12), (1, 8, 10), 100)

    assert [(row.candidates, row.distinct_extents) for row in rows] == [(8, 1), (8, 8), (12, 1), (12, 8), (12, 10)]
    for row in rows:
        assert 0 < row.find_us < row.look_us < row.p50_us <= row.p99_us
        assert 0 < row.choose_us < row.p50_us
        assert row.issue_us > 0


def test_candidates_that_are_seen_to_hold_something_else_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lying(Forest):
        def prompt(self, tokens: int, cached_percent: int, extents: int, number: int) -> Prompt | None:
            prompt = super().prompt(tokens, cached_percent, extents, number)
            return prompt and replace(prompt, extents=dict.fromkeys(prompt.extents, 1))

    monkeypatch.setattr(decide_module, "Forest", Lying)

    with pytest.raises(BenchError, match="the candidates are wrong"):
        decide((8,), (1,), 100)
