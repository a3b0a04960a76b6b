"""The same request of several runs has one place, wherever each run began."""

import numpy as np

from kvplane.controlplane.replay.timeline import places

PROMPTS = np.random.default_rng(0).integers(1, 9000, 200)


def test_runs_of_the_same_requests_share_all_places() -> None:
    assert [its.tolist() for its in places([PROMPTS, PROMPTS])] == [list(range(200))] * 2


def test_a_run_that_began_later_stands_later() -> None:
    first, later = places([PROMPTS, PROMPTS[50:]])

    assert (first[0], later[0], later[-1]) == (0, 50, 199)


def test_a_run_that_began_before_the_first_moves_that_one() -> None:
    first, before = places([PROMPTS[30:150], PROMPTS[:150]])

    assert (first[0], before[0]) == (30, 0)


def test_windows_that_overlap_in_part_are_laid_over_each_other() -> None:
    one, two, three = places([PROMPTS[:100], PROMPTS[60:160], PROMPTS[20:120]])

    assert (one[0], two[0], three[0]) == (0, 60, 20)


def test_other_requests_stand_behind_all_others() -> None:
    others = np.random.default_rng(1).integers(1, 9000, 40)

    one, two, three = places([PROMPTS, others, PROMPTS[10:]])

    assert (one[0], two[0], three[0]) == (0, 200, 10)


def test_no_requests_have_no_places() -> None:
    assert [its.tolist() for its in places([PROMPTS[:0]])] == [[]]
