"""The doorkeeper never counts too few, seldom too many, and forgets."""

import random
from collections import Counter

from kvplane.controlplane.doorkeeper import Doorkeeper

WINDOW = 6144  # sightings
ROW = 14  # bits of a name that say where it is counted, in each of four rows


def place(*columns: int) -> int:
    """The name that is counted in these columns of the four rows."""
    return sum(column << row * ROW for row, column in enumerate(columns))


def test_a_name_is_counted_up_to_255() -> None:
    doorkeeper = Doorkeeper()

    assert [doorkeeper.seen(7) for _ in range(300)] == [*range(1, 256), *[255] * 45]
    assert doorkeeper.seen(place(7, 0, 0, 1)) == 1


def test_names_that_meet_in_one_row_each_do_not_add_up() -> None:
    doorkeeper = Doorkeeper()
    often = [doorkeeper.seen(place(1, 1, 1, 1)) for _ in range(5)]
    met = [doorkeeper.seen(place(*(1 if row == met else 9 + met for row in range(4)))) for met in range(4)]

    assert often == [1, 2, 3, 4, 5]
    assert met == [1, 1, 1, 1]
    assert doorkeeper.seen(place(1, 1, 1, 1)) == 6  # 7, if they had raised the counter where they met


def test_no_name_is_ever_counted_too_low_within_a_window() -> None:
    draw, doorkeeper, truth = random.Random(2), Doorkeeper(), Counter[int]()
    names = [draw.getrandbits(60) for _ in range(5000)]
    for _ in range(WINDOW):
        name = names[int(draw.paretovariate(0.5)) % len(names)]
        truth[name] += 1

        assert doorkeeper.seen(name) >= min(255, truth[name])


def test_one_off_names_are_taken_for_known_ones_in_at_most_two_cases_of_a_hundred() -> None:
    for seed in range(3):
        doorkeeper, draw = Doorkeeper(), random.Random(seed)
        new = [draw.getrandbits(60) for _ in range(10 * WINDOW)]
        for name in [draw.getrandbits(60) for _ in range(200)] * 8:  # what always comes again takes up room, too
            doorkeeper.seen(name)

        false = [doorkeeper.seen(name) > 1 for name in new]
        assert sum(false) / len(false) <= 0.02
        assert sum(false[: WINDOW - 1600]) / (WINDOW - 1600) <= 0.02


def test_what_was_seen_once_is_forgotten_and_what_was_seen_often_is_halved() -> None:
    doorkeeper = Doorkeeper()
    one, two, often, other = (place(number, 0, 0, number) for number in range(4))
    for name in (one, two, *[often] * 8):
        doorkeeper.seen(name)
    for _ in range(WINDOW - 10):
        doorkeeper.seen(other)

    assert doorkeeper.seen(one) == 1
    assert doorkeeper.seen(often) == 5
    assert doorkeeper.seen(two) == 1
