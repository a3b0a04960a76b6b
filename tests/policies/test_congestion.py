"""How busy a fleet is: shares of a discounted half minute, and a line beyond what bursts make."""

import math

import pytest

from kvplane.policies.congestion import Congestion

YEAR_S = 3.15e7


def busy_with(*placed_ms: float, at_s: float = 1000.0, replicas: int = 2) -> Congestion:
    """A fleet first asked about at some time, and what was placed on it then."""
    congestion = Congestion()
    congestion.busy(at_s, replicas)
    for each in placed_ms:
        congestion.placed(500, each)
    return congestion


def test_a_fleet_that_nothing_was_placed_on_is_not_busy() -> None:
    congestion = Congestion()

    assert (congestion.busy(1000.0, 8), congestion.backlog(1e6)) == (0.0, 0.0)


def test_what_was_placed_at_first_counts_against_three_seconds_of_each_replica() -> None:
    assert busy_with(400, 200).busy(1000.0, 2) == pytest.approx(600 / (3000 * 2))


def test_half_a_minute_leaves_a_third_and_has_seen_two_thirds_of_its_weight() -> None:
    # 6000 ms x 0.368 over 30 s x 0.632 of two replicas.
    assert busy_with(6000).busy(1030.0, 2) == pytest.approx(2207 / (18964 * 2), rel=1e-3)


def test_a_steady_stream_comes_to_its_share_of_the_time() -> None:
    congestion = Congestion()
    for second in range(300):
        congestion.busy(1000.0 + second, 4)
        congestion.placed(500, 800)

    assert congestion.busy(1299.5, 4) == pytest.approx(0.2, rel=0.03)


def test_no_fleet_is_busier_than_nineteen_parts_of_twenty() -> None:
    assert busy_with(1e9).busy(1000.0, 2) == 0.95


@pytest.mark.parametrize("at_s", [0.0, -5.0, math.nan, math.inf, -math.inf])
def test_at_a_time_not_known_it_is_not_known_to_be_busy(at_s: float) -> None:
    congestion = busy_with(600)

    assert congestion.busy(at_s, 2) == 0.0
    assert congestion.busy(1000.0, 2) == pytest.approx(0.1)  # and nothing was forgotten


def test_what_was_placed_before_any_time_was_known_does_not_count() -> None:
    congestion = Congestion()
    congestion.placed(500, 1e6)

    assert congestion.busy(1000.0, 2) == 0.0


def test_requests_a_little_out_of_order_change_nothing() -> None:
    assert busy_with(600).busy(990.0, 2) == busy_with(600).busy(1000.0, 2)


def test_after_years_nothing_is_left_and_new_requests_count() -> None:
    congestion = busy_with(600)

    assert congestion.busy(1000.0 + YEAR_S, 2) == 0.0

    congestion.placed(500, 6000)

    assert congestion.busy(1000.0 + YEAR_S, 2) == pytest.approx(0.1)  # of 30 s of two replicas


def test_a_clock_set_back_begins_anew_and_goes_on_forgetting() -> None:
    congestion = busy_with(600, at_s=YEAR_S)

    assert congestion.busy(1000.0, 2) == 0.0

    congestion.placed(500, 6000)

    assert congestion.busy(1000.0, 2) == 0.95
    assert congestion.busy(1300.0, 2) < 0.001


def test_a_line_counts_in_prompts_of_the_usual_size_and_by_a_fiftieth_each_time() -> None:
    # Ten prompts of 100 tokens in line, twelve times told: 10 x (1 - 0.98^12) = 2.153, of which one is a burst.
    congestion = Congestion()
    congestion.placed(100, 1.0)
    told = [congestion.backlog(1000) for _ in range(12)]

    assert told[:5] == [0.0] * 5
    assert told[-1] == pytest.approx(1.153, abs=1e-3)


def test_a_line_that_stays_counts_whole_but_for_the_one_of_a_burst_and_is_forgotten() -> None:
    congestion = Congestion()
    congestion.placed(100, 1.0)

    assert [congestion.backlog(1000) for _ in range(1000)][-1] == pytest.approx(9.0)
    assert [congestion.backlog(0) for _ in range(200)][-1] == 0.0


def test_the_usual_prompt_follows_what_is_placed() -> None:
    congestion = Congestion()
    congestion.placed(100, 1.0)
    congestion.placed(200, 1.0)  # 102 is usual

    assert [congestion.backlog(1020) for _ in range(2000)][-1] == pytest.approx(9.0)


def test_one_report_of_an_endless_line_says_no_more_than_a_hundred_prompts() -> None:
    congestion = Congestion()
    congestion.placed(100, 1.0)

    assert congestion.backlog(2.0**47) == pytest.approx(1.0)  # a fiftieth of a hundred are two
    assert congestion.backlog(2.0**47) == pytest.approx(2.96)
