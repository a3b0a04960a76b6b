import pytest

from kvplane.workers.fetch_costs import Below, FetchCosts


def costs(compute_us: float, cpu_us: float, disk_us: float) -> FetchCosts:
    made = FetchCosts()
    made.computed(100, compute_us * 100 / 1e6)
    made.copied(100, cpu_us * 100 / 1e6)
    made.read(100, disk_us * 100 / 1e6)
    return made


@pytest.mark.parametrize(
    "compute_us, tiers, depth",
    [
        (50, "cccddd", 6),  # a block from disk costs 40 to read and 5 to copy: 5 less than to compute it
        (44, "cccddd", 3),  # 1 more
        (44, "cdddddc", 7),  # 39 spared, 5 x 1 lost, 39 spared
        (44, "dddcc", 5),  # 3 x 1 lost, then 2 x 39 spared
        (4, "cccddd", 0),
        (44, "", 0),
    ],
)
def test_blocks_are_fetched_as_deep_as_that_spares_time(compute_us: float, tiers: str, depth: int) -> None:
    named: dict[str, Below] = {"c": "cpu", "d": "disk"}

    assert costs(compute_us, 5, 40).depth([named[each] for each in tiers]) == depth


def test_what_was_never_measured_is_fetched() -> None:
    unmeasured, computed = FetchCosts(), FetchCosts()
    computed.computed(10, 1e-9)

    assert unmeasured.depth(["cpu", "disk"]) == 2
    assert computed.depth(["cpu", "disk"]) == 2


def test_a_measurement_counts_for_a_fifth_beside_those_before() -> None:
    made = costs(100, 5, 40)
    made.computed(1000, 0.2)  # 200 us a token
    made.read(10, 0.0)

    assert made.compute_us == pytest.approx(120)
    assert made.disk_us == pytest.approx(32)


def test_a_measurement_far_from_those_before_counts_as_twice_them() -> None:
    made = costs(100, 5, 40)
    made.read(10, 1.0)

    assert made.disk_us == pytest.approx(48)


def test_a_tier_that_is_declined_is_tried_again_in_the_end() -> None:
    made = costs(compute_us=52, cpu_us=5, disk_us=60)
    declined = 0
    while not made.depth(["disk"]) and declined < 100:
        declined += 1

    # 65 x 0.98^n is below 52 from the 12th on: ln(52 / 65) / ln(0.98) = 11.05.
    assert declined == 12


def test_declining_the_disk_changes_nothing_for_a_tier_that_is_not_asked() -> None:
    made = costs(compute_us=4, cpu_us=5, disk_us=60)
    made.depth(["cpu"])

    assert made.disk_us == pytest.approx(60)
