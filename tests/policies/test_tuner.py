"""Windows of 100 decisions and a bandit that tries whenever it may, so that every window is known beforehand."""

import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

import pytest
from pydantic import ValidationError

from kvplane.policies import ReplicaId
from kvplane.policies.tuner import Tuner, TunerSettings

WINDOW = 100
REPLICAS = 4
EVEN = tuple(range(REPLICAS))  # the replicas chosen, over and over

Told = tuple[int, float, float, float]  # as `Tuner.ended` is told


def tuner(seed: int = 0, **settings: object) -> Tuner:
    asked = {"factors": (1.0, 2.0), "window_decisions": WINDOW, "try_share": 1.0, **settings}
    return Tuner(TunerSettings.model_validate(asked), Random(seed))


def window(
    tuner: Tuner,
    first_ms: Mapping[float, float],
    end_ms: Mapping[float, float] | None = None,
    crowded: Sequence[int] = EVEN,
    there: int = REPLICAS,
    alone_ms: float = 100.0,
) -> list[Told]:
    """Decide for one window; what its requests would tell, by the factor they were placed at.

    `crowded` and `there`: which replicas another factor than the first chooses, and of how many.
    """
    told = []
    for number in range(WINDOW):
        factor = tuner.factor
        chosen, replicas = (EVEN, REPLICAS) if factor == 1.0 else (crowded, there)
        told.append((tuner.window, first_ms[factor], (end_ms or first_ms)[factor], alone_ms))
        tuner.decided(ReplicaId(f"r{chosen[number % len(chosen)]}"), replicas)
    return told


def tell(tuner: Tuner, told: list[Told]) -> None:
    for each in told:
        tuner.ended(*each)


def tried(tuner: Tuner, windows: int, serve: Callable[[Tuner], list[Told]]) -> Iterator[float]:
    """The factor of each window, its outcomes told when the one after it begins."""
    for _ in range(windows):
        yield tuner.factor
        tell(tuner, serve(tuner))


def serving(*args: object, **kwargs: object) -> Callable[[Tuner], list[Told]]:
    return lambda tuner: window(tuner, *args, **kwargs)  # type: ignore[arg-type]


def test_the_first_factor_serves_first_and_a_better_one_from_when_it_was_judged() -> None:
    # Window 1 tries 2.0 and is judged when window 2 has ended: a gain of ln 2 = 0.69, a half of it for doubt. From then
    # on 2.0 is the favourite, so that what is tried is 1.0.
    made = tuner()

    tell(made, window(made, {1.0: 100, 2.0: 50}))
    assert made.factor == 2.0
    tell(made, window(made, {1.0: 100, 2.0: 50}))
    assert made.factor == 2.0
    window(made, {1.0: 100, 2.0: 50})
    assert made.factor == 1.0


def test_a_factor_that_is_better_by_less_than_the_margin_stays_one_that_is_tried() -> None:
    # ln(100/97) = 0.030, however often it is seen.
    assert set(list(tried(tuner(), 60, serving({1.0: 100, 2.0: 97})))[1:]) == {2.0}


def test_a_small_gain_counts_once_it_was_seen_twice() -> None:
    # ln(100/91) = 0.0943: one window 0.0943 / 2 = 0.047, two (0.9 + 1) x 0.0943 / (1.9 + 1) = 0.062 > 0.05.
    # The second, window 2, is told while window 3 runs, and judged at its end.
    made = tuner()

    assert list(tried(made, 5, serving({1.0: 100, 2.0: 91}))) == [1.0, 2.0, 2.0, 2.0, 1.0]


def test_a_worse_factor_never_becomes_the_favourite() -> None:
    assert set(list(tried(tuner(), 60, serving({1.0: 100, 2.0: 101})))[1:]) == {2.0}


def test_who_lost_its_place_may_win_it_back_and_is_then_what_others_are_measured_by() -> None:
    # After window 2 the favourite is 2.0. From window 3 on 1.0 is better by ln(50/42) = 0.17, and found to be when
    # window 4 has ended. That 2.0 was better than 100 ms counts for nothing from then on.
    made, alike = tuner(), {1.0: 1000.0, 2.0: 1000.0}
    assert list(tried(made, 3, serving({1.0: 100, 2.0: 50}, alike))) == [1.0, 2.0, 2.0]

    assert list(tried(made, 30, serving({1.0: 42, 2.0: 50}, alike))) == [1.0, 1.0] + [2.0] * 28


def test_longer_prompts_count_neither_for_nor_against() -> None:
    shorter, longer = tuner(aside_windows=0), tuner(aside_windows=0)
    for made in (shorter, longer):
        tell(made, window(made, {1.0: 100, 2.0: 100}))
    tell(shorter, window(shorter, {2.0: 10}, alone_ms=10))
    tell(longer, window(longer, {2.0: 500}, {2.0: 1000}, alone_ms=1000))  # half of what it would take alone
    window(shorter, {2.0: 10})
    window(longer, {2.0: 500})

    assert shorter.factor == 2.0  # no better, and tried again
    assert longer.factor == 1.0  # better, and the other one is tried


@pytest.mark.parametrize("usual, tried_ms, then", [(200, 100, 1.0), (200, 125, 2.0), (50, 58, 1.0), (50, 61, 2.0)])
def test_what_is_tried_is_measured_by_the_favourites_windows_the_newest_three_tenths(
    usual: float, tried_ms: float, then: float
) -> None:
    # Windows 1 and 2 find 2.0 as good and its answers slower: it is set aside for one window after each. In windows 3
    # and 4 the favourite's 100 ms become 200 or 50: by 0.3 twice, 142 or 70. Window 5 tries 2.0 a third time, that is
    # of a weight of 0.9 x 1.9 + 1 = 2.71. ln(142/100) / 3.71 = 0.095; of 125 ms 0.035. ln(70/58) / 3.71 = 0.051; of 61
    # ms 0.038. The margin is 0.05.
    made = tuner(aside_windows=1)
    for number in range(7):
        first_ms = {1.0: 100, 2.0: 100} if number < 3 else {1.0: usual, 2.0: tried_ms}
        tell(made, window(made, first_ms, {1.0: 1000, 2.0: 1300 if number < 3 else 1000}))

    assert made.factor == then


def test_a_factor_whose_slowest_answers_are_slower_is_set_aside() -> None:
    # Windows 1 and 2 try 2.0: first tokens twice as soon, answers 1.3 times as long. They are judged when 2 and 3 have
    # ended, so for three windows after that, 4 to 6, nothing is tried.
    serve = serving({1.0: 100, 2.0: 50}, {1.0: 1000, 2.0: 1300})

    assert list(tried(tuner(aside_windows=3), 8, serve)) == [1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0]


def test_answers_a_little_slower_do_not_set_aside() -> None:
    serve = serving({1.0: 100, 2.0: 50}, {1.0: 1000, 2.0: 1200})

    assert list(tried(tuner(aside_windows=0), 4, serve)) == [1.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("slow, then", [(4, 1.0), (5, 2.0)])
def test_the_96th_of_100_answers_is_the_one_looked_at(slow: int, then: float) -> None:
    # Where 2.0 has become the favourite, 1.0 is tried; where it was set aside, for no window, it is tried again.
    made = tuner(aside_windows=0)
    tell(made, window(made, {1.0: 100, 2.0: 50}))
    told = window(made, {1.0: 100, 2.0: 50}, {1.0: 100, 2.0: 100})
    tell(made, [(number, first_ms, 900.0, alone_ms) for number, first_ms, _, alone_ms in told[:slow]] + told[slow:])
    window(made, {1.0: 100, 2.0: 50})

    assert made.factor == then


@pytest.mark.parametrize("crowded", [(0,), (0, 1), (0, 1, 0, 2, 0, 3)])
def test_a_factor_that_crowds_the_replicas_is_set_aside(crowded: Sequence[int]) -> None:
    # Of four replicas the busiest gets all, a half, a half: four times or twice its share.
    serve = serving({1.0: 100, 2.0: 50}, crowded=crowded)

    assert list(tried(tuner(aside_windows=3), 8, serve)) == [1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0]


def test_a_little_crowding_does_not_set_aside() -> None:
    # Three of four: 34 of 100, 1.36 times a fair share.
    serve = serving({1.0: 100, 2.0: 50}, crowded=(0, 1, 2))

    assert list(tried(tuner(aside_windows=0), 4, serve)) == [1.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("crowded, then", [((0, 1), 1.0), ((0,), 2.0)])
def test_a_fleet_that_shrank_is_crowded_by_its_own_measure(crowded: Sequence[int], then: float) -> None:
    serve = serving({1.0: 100, 2.0: 50}, crowded=crowded, there=2)

    assert list(tried(tuner(aside_windows=0), 4, serve)) == [1.0, 2.0, 2.0, then]


def test_outcomes_in_any_order_teach_the_same() -> None:
    def mixed(tuner: Tuner) -> list[Told]:
        told = [*window(tuner, {1.0: 100, 2.0: 91})]
        Random(tuner.window).shuffle(told)
        return told

    factors = list(tried(tuner(), 12, mixed))

    assert factors == list(tried(tuner(), 12, serving({1.0: 100, 2.0: 91})))
    assert 1.0 in factors[1:]


def test_an_outcome_is_in_time_until_the_next_window_has_ended() -> None:
    in_time, late = tuner(), tuner()
    for made in (in_time, late):
        tell(made, window(made, {1.0: 100, 2.0: 50}))
    tried_in_time, tried_late = window(in_time, {1.0: 100, 2.0: 50}), window(late, {1.0: 100, 2.0: 50})
    tell(in_time, tried_in_time[::-1])

    window(in_time, {1.0: 100, 2.0: 50})
    window(late, {1.0: 100, 2.0: 50})
    tell(late, tried_late)
    window(late, {1.0: 100, 2.0: 50})

    assert in_time.factor == 1.0
    assert late.factor == 2.0


@pytest.mark.parametrize("heard, then", [(29, 2.0), (30, 1.0)])
def test_a_window_of_few_outcomes_says_nothing(heard: int, then: float) -> None:
    made = tuner()
    tell(made, window(made, {1.0: 100, 2.0: 50}))
    tell(made, window(made, {1.0: 100, 2.0: 50})[:heard])
    window(made, {1.0: 100, 2.0: 50})

    assert made.factor == then


def test_outcomes_of_windows_that_never_were_count_for_nothing() -> None:
    made = tuner()
    before = pickle.dumps(made)
    tell(made, [(-1, 1.0, 1.0, 1.0), (7, 1.0, 1.0, 1.0), (0, 1.0, 1.0, 0.0)])

    assert pickle.dumps(made) == before


def test_who_must_not_try_never_does() -> None:
    assert set(tried(tuner(try_share=0), 200, serving({1.0: 900, 2.0: 50}))) == {1.0}


def test_one_factor_alone_is_kept() -> None:
    assert set(tried(tuner(factors=(1.5,)), 20, serving({1.5: 100}))) == {1.5}


def test_a_share_of_windows_tries_all_others_alike() -> None:
    flat = dict.fromkeys((1.0, 0.6, 1.7), 100.0)
    made = tuner(factors=(1.0, 0.6, 1.7), try_share=0.1)
    factors = list(tried(made, 2000, serving(flat)))

    assert 70 < factors.count(0.6) < 130
    assert 70 < factors.count(1.7) < 130


def test_the_same_seed_tries_the_same() -> None:
    first, again, other = (
        list(tried(tuner(seed, try_share=0.3), 50, serving({1.0: 100, 2.0: 100}))) for seed in (7, 7, 8)
    )

    assert first == again
    assert first != other


def test_requests_whose_outcomes_never_come_are_not_kept() -> None:
    made, sizes = tuner(), []
    for _ in range(3):
        for _ in range(100):
            window(made, {1.0: 100, 2.0: 100})
        sizes.append(len(pickle.dumps(made)))

    assert max(sizes) - min(sizes) < 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"factors": ()},
        {"factors": (1.0, 0.0)},
        {"factors": (-1.0,)},
        {"factors": (math.nan,)},
        {"window_decisions": 29},
    ],
)
def test_settings_that_could_prove_nothing_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        tuner(**wrong)  # type: ignore[arg-type]
