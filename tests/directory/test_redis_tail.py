"""How those who follow a log share one read. The reads here are scripted."""

import pytest

from kvplane.directory import BadMessage
from kvplane.directory.redis_tail import Entry, Follower, Pace


def entries(*places: str) -> list[Entry]:
    return [(place.encode(), [b"body", b"?"]) for place in places]


async def test_a_follower_gets_what_is_behind_its_position_only() -> None:
    follower = Follower(b"1-5")

    follower.deliver(b"1-3", entries("1-4", "1-5", "1-6"))
    follower.deliver(b"1-6", entries("1-7", "2-0"))

    assert await follower.arrived() == entries("1-6", "1-7", "2-0")
    assert follower.position == b"2-0"


async def test_a_follower_that_joined_behind_what_was_asked_for_waits_for_the_next_read() -> None:
    follower = Follower(b"1-5")

    follower.deliver(b"1-9", entries("1-10"))
    follower.deliver(b"1-5", entries("1-6"))

    assert await follower.arrived() == entries("1-6")


async def test_a_slow_follower_loses_the_oldest() -> None:
    follower = Follower(b"1-0")

    follower.deliver(b"1-0", entries(*(f"1-{seq}" for seq in range(1, 5001))))

    assert [place for place, _ in await follower.arrived()][::4095] == [b"1-905", b"1-5000"]


async def test_a_follower_of_what_is_no_log_fails() -> None:
    follower = Follower(b"1-0")

    follower.fail(BadMessage("no log"))

    with pytest.raises(BadMessage, match="no log"):
        await follower.arrived()


def test_few_logs_are_read_at_once_and_many_a_few_times_a_second() -> None:
    pace = Pace()
    pace.tails = 16

    rests_s = []
    for pace.logs in (1, 64, 128, 320, 1024):
        rests_s.append(pace.rest_s)

    assert rests_s == [0, 0, pytest.approx(0.0625), 0.25, 0.25]
