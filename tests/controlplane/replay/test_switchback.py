"""Windows of two policies by turns: paired means, what a window inherits left out, an interval that holds the truth."""

import numpy as np
import pytest

from kvplane.controlplane.replay.compare import Incomparable
from kvplane.controlplane.replay.switchback import Window, switchback


def window(at: int, policy: str, values: list[float]) -> Window:
    """Ten seconds, its requests evenly in them."""
    arrived_ms = 10_000.0 * at + np.linspace(0, 10_000, len(values), endpoint=False)
    return Window(policy, 10_000.0 * at, 10_000.0 * (at + 1), arrived_ms, np.array(values))


def test_the_interval_is_students_over_pairs() -> None:
    # Differences 1, 2 and 3: mean 2, deviation 1; t of two degrees of freedom 4.303, over sqrt(3).
    windows = [window(at, "ab"[at % 2], [value] * 5) for at, value in enumerate((5.0, 4.0, 9.0, 7.0, 4.0, 1.0))]

    found = switchback(windows, "a", "b")

    assert (found.difference, found.pairs) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    assert not found.shown
    assert switchback(windows, "b", "a").difference == -2.0


def test_the_first_part_of_a_window_is_what_the_other_policy_left() -> None:
    windows = [window(at, "abba"[at], [99.0, *[1.0 if "abba"[at] == "a" else 3.0] * 4]) for at in range(4)]

    assert switchback(windows, "a", "b", carry_over=0.2).difference == -2.0
    assert switchback(windows, "a", "b", carry_over=0.2).shown
    assert switchback(windows, "a", "b", carry_over=0.0).difference == pytest.approx(-8 / 5)


def test_values_that_are_not_there_are_left_out() -> None:
    windows = [window(at, "ab"[at % 2], [1.0, 1.0, float("nan"), 1.0]) for at in range(4)]

    assert switchback(windows, "a", "b").difference == 0.0


def test_windows_may_come_in_any_order() -> None:
    windows = [window(at, "ab"[at % 2], [float(at)] * 5) for at in range(6)]

    assert switchback(windows[::-1], "a", "b") == switchback(windows, "a", "b")


def test_the_interval_holds_the_truth_under_a_drift_that_is_greater_than_the_difference() -> None:
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        drift = np.cumsum(random.normal(size=40))
        order = [policy for _ in range(20) for policy in random.permutation(["a", "b"])]
        windows = [
            window(at, policy, (drift[at] + (policy == "a") + random.normal(size=50)).tolist())
            for at, policy in enumerate(order)
        ]
        found = switchback(windows, "a", "b")
        held += found.low <= 1.0 <= found.high

    assert 88 <= held <= 99


@pytest.mark.parametrize(
    "policies, why",
    [
        ("ab", "an even number of windows, 4 or more; got 2"),
        ("ababa", "got 5"),
        ("aabb", "wanted a and b, one each, in windows 0 and 1; got a and a"),
        ("abac", "in windows 2 and 3; got a and c"),
    ],
)
def test_windows_that_do_not_pair_are_refused(policies: str, why: str) -> None:
    with pytest.raises(Incomparable, match=why):
        switchback([window(at, policy, [1.0] * 5) for at, policy in enumerate(policies)], "a", "b")


def test_windows_that_overlap_or_hold_nothing_are_refused() -> None:
    windows = [window(at, "ab"[at % 2], [1.0] * 5) for at in range(4)]

    with pytest.raises(Incomparable, match="windows 0 and 1 overlap"):
        switchback([windows[0], Window("b", 5_000.0, 9_000.0, np.zeros(1), np.ones(1)), *windows[2:]], "a", "b")
    with pytest.raises(Incomparable, match=r"window 1 \(b\) has no value after 20%"):
        switchback([windows[0], window(1, "b", [1.0]), *windows[2:]], "a", "b")
    with pytest.raises(Incomparable, match="below 1, of each window; got 1"):
        switchback(windows, "a", "b", carry_over=1)
