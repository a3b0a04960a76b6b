"""Look-ups measured: which combinations, how often, and never a wrong answer."""

from collections.abc import Sequence

import pytest

from kvplane.tests.bench import lookup as lookup_module
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.forest import Prompt
from kvplane.tests.bench.index import Look
from kvplane.tests.bench.lookup import Sizes, check, lookup, measure

PROMPTS = [Prompt(b"", (), {})] * 4


class Cpu:
    """A clock that goes on while a look asks: so many seconds in each call in turn, the last for ever."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.calls = 0

    def __call__(self) -> float:
        return self.at_s

    def look(self, *seconds: float) -> Look:
        left = list(seconds)

        def ask(prompts: Sequence[Prompt]) -> Sequence[object]:
            self.calls += 1
            self.at_s += left.pop(0) if len(left) > 1 else left[0]
            return [None] * len(prompts)

        return Look(ask, lambda answer, prompt: True)


@pytest.mark.usefixtures("_alone")
def test_every_combination_that_can_be_is_a_row() -> None:
    rows = lookup(Sizes((8,), (2000,), (512, 1024), (0, 95), (0, 1, 8, 64)))

    found = {(row.tokens, row.cached_percent, row.distinct_extents) for row in rows}
    assert found == {(512, 0, 0), (512, 95, 1), (512, 95, 8), (1024, 0, 0), (1024, 95, 1), (1024, 95, 8)}
    assert {(row.impl, row.replicas, row.blocks) for row in rows} == {
        (impl, 8, 2000) for impl in ("kvplane_best8", "kvplane_deepest", "kvplane_all")
    }
    assert all(row.cpu_us > 0 for row in rows)


def test_one_disturbed_round_does_not_count() -> None:
    cpu = Cpu()

    found = measure({"ours": cpu.look(0.04, 0.04, 9.0, 0.04), "peer": cpu.look(0.08)}, PROMPTS, cpu)

    assert found == {"ours": pytest.approx(10_000), "peer": pytest.approx(20_000)}


def test_what_is_quick_is_asked_often_enough_to_be_measured() -> None:
    cpu = Cpu()

    assert measure({"quick": cpu.look(0.0002)}, PROMPTS, cpu) == {"quick": pytest.approx(50)}
    assert cpu.calls == 1 + 7 * 100


def test_a_wrong_answer_is_an_error() -> None:
    look = Look(lambda prompts: ["an answer"], lambda answer, prompt: False)

    with pytest.raises(BenchError, match="kvplane_best8 answers wrongly"):
        check("kvplane_best8", look, PROMPTS[:1])


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without peers, and in short rounds."""
    monkeypatch.setattr(lookup_module, "have_peers", lambda: False)
    monkeypatch.setattr(lookup_module, "_ROUND_S", 0.001)
