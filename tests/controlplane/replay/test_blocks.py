"""Stretches of a circle, drawn whole; how long they are; Student's t."""

import numpy as np
import pytest

from kvplane.controlplane.replay.blocks import Blocks, block_length, draw_blocks, interval, t_quantile

DRAW = Blocks(size=5, length=2, firsts=np.array([[0, 3, 4]]))  # positions 0 1, 3 4, 4 0


def test_a_stretch_goes_on_behind_the_last_position() -> None:
    assert DRAW.sums(np.array([[1.0, 10.0, 100.0, 1000.0, 10000.0]])).tolist() == [[1 + 10 + 1000 + 10000 + 10000 + 1]]
    assert DRAW.counts(0).tolist() == [2, 1, 0, 1, 2]


def test_counts_and_sums_say_the_same() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(1, 103))
    for length in (1, 7, 103):
        blocks = draw_blocks(103, length, 5, random)

        assert blocks.sums(values)[:, 0] == pytest.approx([blocks.counts(draw) @ values[0] for draw in range(5)])


def test_a_draw_is_as_long_as_all_positions_or_just_longer() -> None:
    assert draw_blocks(10, 4, 6, np.random.default_rng(0)).firsts.shape == (6, 3)


def test_every_position_is_drawn_as_often_at_the_ends_as_within() -> None:
    blocks = draw_blocks(12, 4, 4000, np.random.default_rng(0))

    often = np.mean([blocks.counts(draw) for draw in range(4000)], axis=0)

    assert often == pytest.approx(np.ones(12), abs=0.06)


@pytest.mark.parametrize("memory, least, most", [(0.0, 100, 100), (0.9, 110, 250), (0.99, 400, 1250)])
def test_blocks_grow_with_how_long_values_remember(memory: float, least: int, most: int) -> None:
    # A first-order process has the correlation time (1 + memory) / (1 - memory): 1, 19 and 199.
    random = np.random.default_rng(3)
    values = np.zeros(10_000)
    for at, shock in enumerate(random.normal(size=len(values) - 1)):
        values[at + 1] = memory * values[at] + shock

    assert least <= block_length(values) <= most


def test_values_that_never_vary_get_the_square_root() -> None:
    assert block_length(np.ones(400)) == 20


@pytest.mark.parametrize("freedom, known", [(1, 12.706), (2, 4.303), (5, 2.571), (30, 2.042), (10_000, 1.960)])
def test_students_t_is_that_of_the_tables(freedom: int, known: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(known, abs=6e-4)


def test_an_interval_is_widened_about_its_estimate() -> None:
    draws = np.linspace(0.0, 1.0, 1001)

    assert interval(draws, 0.5, 1.0) == pytest.approx((0.025, 0.975))
    assert interval(draws, 0.5, 2.0) == pytest.approx((-0.45, 1.45))
