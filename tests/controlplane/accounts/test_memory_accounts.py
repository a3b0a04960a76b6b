"""Buckets in memory against an exact model, and against what any bucket promises, under histories drawn at random."""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.accounts import Lease, Rate
from kvplane.controlplane.accounts.memory_accounts import MemoryAccounts

T = TypeVar("T")
Step = tuple[str, int, int]  # lease (need, more wanted), give back (units, -), wait (64ths of a second, -)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("lease"), st.integers(0, 24), st.integers(0, 24)),
        st.tuples(st.just("give back"), st.integers(-300, 30), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 2_000), st.just(0)),
    ),
    max_size=30,
)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class TokenBucket:
    """Holds units, not a time as the implementations do. All amounts are eighths or so: their floats are exact."""

    per_s: Fraction
    burst: Fraction
    there: Fraction = field(init=False)

    def __post_init__(self) -> None:
        self.there = self.burst

    def add(self, units: Fraction) -> None:
        self.there = max(min(self.there + units, self.burst), -9 * self.burst)

    def lease(self, need: int, want: int) -> Fraction | None:
        if need > self.burst or self.there < need:
            return None
        units = min(Fraction(want), self.there)
        self.there -= units
        return units


@given(steps, st.sampled_from([Fraction(1, 4), Fraction(1), Fraction(8)]), st.sampled_from([1, 10, 20]))
def test_every_lease_is_the_exact_models(steps: Sequence[Step], per_s: Fraction, burst: int) -> None:
    clock, model, rate = Clock(), TokenBucket(per_s, Fraction(burst)), Rate(float(per_s), float(burst))
    accounts = MemoryAccounts(clock)

    for verb, amount, more in steps:
        match verb:
            case "wait":
                clock.now += amount / 64
                model.add(amount * per_s / 64)
            case "give back":
                done(accounts.give_back("b", rate, amount))
                model.add(Fraction(amount))
            case _:
                granted = model.lease(amount, amount + more)
                lease = done(accounts.lease("b", rate, amount, amount + more))

                assert lease.units == (granted or 0)
                assert (lease.retry_s == 0) == (granted is not None)
                assert lease.left == max(model.there, 0)


@given(
    st.floats(0, 2e9),
    st.floats(1e-3, 1e7),
    st.floats(1e-2, 1e6),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=20),
)
def test_a_refused_lease_is_there_when_it_said_and_no_more_than_came_back_is_ever_leased(
    began: float, per_s: float, burst: float, asked: Sequence[tuple[float, float, float]]
) -> None:
    clock, rate, taken = Clock(began), Rate(per_s, burst), 0.0
    accounts = MemoryAccounts(clock)

    for need, more, pause in asked:
        clock.now += pause * burst / per_s
        lease = done(accounts.lease("b", rate, need * burst, (need + more) * burst))
        if lease.retry_s:
            clock.now += lease.retry_s
            lease = done(accounts.lease("b", rate, need * burst, need * burst))
        taken += lease.units

        assert lease.retry_s == 0
        assert taken <= (burst + per_s * (clock.now - began + 2e-6)) * (1 + 1e-9)


def test_a_clock_set_back_bars_nobody_for_long() -> None:
    clock, rate = Clock(1e6), Rate(per_s=1.0, burst=10.0)
    accounts = MemoryAccounts(clock)
    done(accounts.lease("b", rate, 10, 10))

    clock.now = 0.0

    assert done(accounts.lease("b", rate, 1, 1)) == Lease(0, retry_s=91.0, left=0)


def done(verb: Coroutine[None, None, T]) -> T:
    """What a verb that awaits nothing gives."""
    try:
        verb.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it awaited something")
