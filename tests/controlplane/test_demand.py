"""What the next requests will need is what the last ones did: the larger needs, and the pace of late."""

import pytest

from kvplane.controlplane.demand import Demand


def used(*units: float, since_s: float = 0.0) -> Demand:
    demand = Demand(since_s)
    for each in units:
        demand.use(each)
    return demand


def test_the_pace_is_half_the_last_periods_and_half_that_of_those_before() -> None:
    demand, paces = used(40.0), []
    for end_s in (2.0, 4.0, 6.0):
        demand.begin(end_s)
        paces.append(demand.expected(end_s))
        demand.use(40.0 if end_s < 4 else 0.0)

    assert paces == [10.0, 15.0, 7.5]


def test_what_was_used_in_less_than_a_second_is_expected_of_the_next() -> None:
    demand = used(10.0, 20.0)

    assert [demand.expected(now_s) for now_s in (0.1, 1.0, 1.5)] == [30.0, 30.0, 20.0]


def test_a_period_is_two_seconds() -> None:
    demand = Demand(10.0)

    assert [demand.is_over(now_s) for now_s in (11.9, 12.0)] == [False, True]
    demand.begin(12.0)
    assert not demand.is_over(13.9)


def test_a_larger_need_counts_at_once_and_a_smaller_one_a_sixteenth() -> None:
    demand = used(16.0)
    assert demand.spare(most=100.0) == 4 * 16.0
    demand.hear(0.0)
    assert demand.spare(most=100.0) == 4 * 15.0
    demand.hear(20.0)

    assert demand.spare(most=100.0) == 4 * 20.0


@pytest.mark.parametrize("most, spare", [(100.0, 40.0), (39.0, 39.0), (10.0, 10.0), (9.9, 0.0)])
def test_four_needs_lie_ready_or_as_many_as_may_and_none_where_one_does_not_fit(most: float, spare: float) -> None:
    assert used(10.0).spare(most) == spare


def test_nothing_is_kept_of_a_tenant_that_was_silent_for_half_a_minute() -> None:
    demand = used(10.0)
    demand.begin(2.0)
    demand.begin(4.0)

    assert [demand.kept(now_s, most=100.0) for now_s in (31.9, 32.0)] == [40.0, 0.0]


def test_it_is_low_below_one_need_or_half_of_the_next_second() -> None:
    seldom, often = used(10.0), used(*[10.0] * 8)

    assert [each.low(1.0, most=100.0) for each in (seldom, often)] == [10.0, 40.0]
    assert used(10.0).low(1.0, most=9.0) == 5.0


def test_the_goal_is_the_next_second_and_what_lies_ready_within_what_may_be_ahead() -> None:
    demand = used(*[10.0] * 8)

    assert demand.goal(1.0, most=100.0, most_ahead=500.0) == 80.0 + 40.0
    assert demand.goal(1.0, most=100.0, most_ahead=50.0) == 50.0
    assert demand.goal(1.0, most=100.0, most_ahead=5.0) == 10.0
