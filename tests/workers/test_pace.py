"""However many replicas there are, a router hears a bounded number of batches."""

import pytest

from kvplane.workers.pace import AT_ONCE, pace


def test_a_small_fleet_beats_four_times_a_second_and_tells_news_at_once() -> None:
    assert pace(3).heartbeat_s == AT_ONCE.heartbeat_s == 0.25
    assert pace(3).gap_s < 0.001


@pytest.mark.parametrize("replicas", [1, 512, 1024, 2048])
def test_all_replicas_together_send_a_bounded_number_of_batches(replicas: int) -> None:
    each = pace(replicas)

    assert replicas / each.heartbeat_s <= 2048
    assert replicas / each.gap_s <= 20_000 * 1.0001


def test_no_replica_is_silent_for_more_than_a_second() -> None:
    assert pace(100_000).heartbeat_s == 1.0
