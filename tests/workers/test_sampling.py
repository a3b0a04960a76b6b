from collections import Counter

import numpy as np
import pytest

from kvplane.workers.engine import Sampling
from kvplane.workers.sampling import draw

LOGITS = np.log(np.array([0.1, 0.6, 0.3], np.float32))


def drawn(sampling: Sampling, count: int = 4000) -> Counter[int]:
    return Counter(draw(LOGITS, sampling, seed=7, position=position) for position in range(count))


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(drawn(Sampling(1, temperature=0), 10)) == {1}


def test_temperature_one_draws_by_probability() -> None:
    counts = drawn(Sampling(1))

    assert [counts[token] / 4000 for token in range(3)] == pytest.approx([0.1, 0.6, 0.3], abs=0.03)


def test_a_low_temperature_sharpens_and_a_high_one_flattens() -> None:
    cold, hot = drawn(Sampling(1, temperature=0.5)), drawn(Sampling(1, temperature=2))

    assert cold[1] / 4000 == pytest.approx(0.36 / 0.46, abs=0.03)
    assert hot[1] / 4000 < 0.5


@pytest.mark.parametrize("top_p, kept", [(0.0, {1}), (0.5, {1}), (0.7, {1, 2}), (0.95, {0, 1, 2})])
def test_top_p_keeps_the_fewest_likeliest(top_p: float, kept: set[int]) -> None:
    assert set(drawn(Sampling(1, top_p=top_p))) == kept


def test_a_seed_fixes_the_draws_and_another_changes_them() -> None:
    flat = np.zeros(1000, np.float32)
    first, again, other = ([draw(flat, Sampling(1), seed, position) for position in range(9)] for seed in (1, 1, -2))

    assert first == again
    assert first != other
