"""A trace's ids as ranges, and parts of a trace."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.replay.trace import BadTrace, Trace, TraceRequest, folded, scaled

TRACE = Trace(
    "three",
    16,
    [
        TraceRequest(0.0, 32, 4, ((0, 2),), "a", "acme"),
        TraceRequest(100.0, 48, 5, ((0, 1), (2, 2)), "b", "globex"),
        TraceRequest(300.0, 16, 6, ((4, 1),), "a", "acme"),
    ],
)


def test_ids_that_follow_one_another_are_one_range() -> None:
    assert folded([3, 4, 5, 9, 8, 10, 11]) == ((3, 3), (9, 1), (8, 1), (10, 2))


def test_no_ids_are_no_ranges() -> None:
    assert folded([]) == ()


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**62), max_size=60))
def test_ranges_give_back_the_ids_they_were_folded_from(ids: list[int]) -> None:
    assert TraceRequest(0.0, 1, 1, folded(ids)).block_ids.tolist() == ids


def test_a_request_without_ranges_has_no_ids() -> None:
    assert TraceRequest(0.0, 1, 1, ()).block_ids.dtype == np.int64


def test_a_speedup_divides_times_and_nothing_else() -> None:
    fast = scaled(TRACE, speedup=4.0)

    assert [each.at_ms for each in fast.requests] == [0.0, 25.0, 75.0]
    assert [each.ranges for each in fast.requests] == [each.ranges for each in TRACE.requests]


def test_a_later_start_is_the_new_zero() -> None:
    assert [(each.at_ms, each.session) for each in scaled(TRACE, start=1).requests] == [(0.0, "b"), (200.0, "a")]


def test_requests_are_counted_from_the_start_among_one_tenants() -> None:
    assert [each.output_tokens for each in scaled(TRACE, tenant="acme", start=1, requests=1).requests] == [6]


def test_the_trace_it_is_taken_from_stays_as_it_was() -> None:
    scaled(TRACE, speedup=2.0, start=1)

    assert [each.at_ms for each in TRACE.requests] == [0.0, 100.0, 300.0]


@given(
    gaps=st.lists(st.floats(0, 1e6), min_size=1, max_size=20),
    speedup=st.floats(0.01, 100),
    start=st.integers(0, 19),
)
def test_scaling_keeps_the_order_and_begins_at_zero(gaps: list[float], speedup: float, start: int) -> None:
    trace = Trace("gaps", 16, [TraceRequest(at, 1, 1, ((0, 1),)) for at in np.cumsum(gaps).tolist()])
    times = [each.at_ms for each in scaled(trace, speedup=speedup, start=start % len(gaps)).requests]

    assert times[0] == 0.0
    assert times == sorted(times)


def test_an_unknown_tenant_is_told_who_there_is() -> None:
    with pytest.raises(BadTrace, match="three: no tenant 'initech'; there are acme, globex"):
        scaled(TRACE, tenant="initech")


def test_of_many_tenants_a_few_are_named() -> None:
    many = Trace("many", 16, [TraceRequest(0.0, 1, 1, ((0, 1),), tenant=f"t{number}") for number in range(8)])

    with pytest.raises(BadTrace, match="there are t0, t1, t2, t3, t4 and 3 more"):
        scaled(many, tenant="t9")


@pytest.mark.parametrize(
    "wanted, why",
    [
        ({"requests": 4}, "wanted 4 requests from request 0 on, there are 3 in all"),
        ({"requests": 1, "start": 3}, "from request 3 on, there are 3"),
        ({"start": 3}, "from request 3 on, there are 3"),
        ({"start": -1}, "wanted start >= 0"),
        ({"requests": 0}, "requests >= 1"),
        ({"speedup": 0.0}, "wanted a speedup above 0, got 0.0"),
        ({"speedup": float("nan")}, "got nan"),
        ({"speedup": float("inf")}, "got inf"),
    ],
)
def test_a_part_that_is_not_there_is_refused(wanted: dict[str, float], why: str) -> None:
    with pytest.raises(BadTrace, match=why):
        scaled(TRACE, **wanted)  # type: ignore[arg-type]


def test_a_bad_trace_crosses_a_process() -> None:
    error = pickle.loads(pickle.dumps(BadTrace("a.jsonl", 3, "wanted x, got y")))  # noqa: S301

    assert (str(error), error.line) == ("a.jsonl, line 3: wanted x, got y", 3)
