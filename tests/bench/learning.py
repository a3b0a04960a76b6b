"""The learning benchmark: a policy that starts with wrong rates, or whose fleet changes, beside one that knew."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

import numpy as np

from kvplane.controlplane.replay.compare import compare
from kvplane.controlplane.replay.fleet import FleetSettings, Incident
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.run import Floats, Run
from kvplane.policies import (
    Candidate,
    Choice,
    Outcome,
    Policy,
    PolicyName,
    PolicySettings,
    RoutedRequest,
    build_policy,
)
from kvplane.policies.rates import Rates

from .errors import BenchError
from .learning_rows import LearningRow
from .replays import Replay, Replays
from .workloads import Part, fleet_for

PRIOR, CHANGE, CONTROL = 1.05, 1.10, 1.02  # ours over the reference's mean TTFT, at most
WRONG = (1 / 3, 3.0)
SLOWER = 2.0
RECOVERED_AFTER = 500  # decisions, at most

_OF_REQUESTS = (
    *("arrived_ms", "queue_ms", "ttft_ms", "e2e_ms", "prompt_tokens", "cached_tokens", "output_tokens", "tenant"),
    "replica",
)
_LEAST_RATE = 1e-9  # a prior has to be above 0, a fit does not
_STARTS = 4  # runs whose change comes at another request each, so that no single prompt decides


@dataclass(frozen=True, slots=True)
class Pupil:
    """Who learns, and on which engine."""

    ours: PolicyName
    timing: str
    learned: int = 2000  # requests it is given for that
    window: int = 300  # requests that a rolling mean is of


def wrong_prior(part: Part, pupil: Pupil, rates: Rates, replays: Replays) -> Iterator[LearningRow]:
    """Start with rates a third and three times of what is to be learned, and with those themselves."""
    fleet = fleet_for(part, pupil.timing)
    wrong = [_replay(part, fleet, _believing(pupil.ours, rates, factor), f"rates x{factor:.2g}") for factor in WRONG]
    informed = _replay(part, fleet, _believing(pupil.ours, rates, 1.0), "well informed")
    reference, *runs = (behind(run, pupil.learned) for run in replays.run([informed, *wrong]))
    for factor, run in zip(WRONG, runs, strict=True):
        yield _row(f"rates x{factor:.2g}", part, "well informed", run, reference, PRIOR)


def slowed(part: Part, pupil: Pupil, replays: Replays) -> LearningRow:
    """Half the replicas become twice as slow in mid-run; the reference runs where they have been so from the start.

    Recovered is who from some decision on has a rolling mean within a tenth of the reference's, for a window's length
    of windows: both decide on the same requests, so a window's mean differs only by what was decided, and when.
    """
    starts = [_from(part, number) for number in range(_STARTS)]
    changes = [each.requests // 2 for each in starts]
    policy, fleet = PolicySettings(name=pupil.ours), fleet_for(part, pupil.timing)
    asked = [
        _replay(each, replace(fleet, incidents=_slow(fleet, at_ms)), policy, said)
        for each, change in zip(starts, changes, strict=True)
        for at_ms, said in ((each.trace.requests[change].at_ms, "slowed in mid-run"), (0.0, "slow all along"))
    ]
    runs = [behind(run, changes[number // 2]) for number, run in enumerate(replays.run(asked))]
    ours, knew = runs[::2], runs[1::2]
    summed = _summed(ours), _summed(knew)
    recovered = recovered_after(*summed, pupil.window)
    late = [behind(run, RECOVERED_AFTER) for run in ours], [behind(run, RECOVERED_AFTER) for run in knew]
    found = compare(*late, "ttft_mean_ms")
    return LearningRow(
        "half slows",
        part.name,
        part.speedup,
        "slow all along",
        len(late[0][0].ttft_ms),
        found.ratio,
        found.low,
        found.high,
        CHANGE,
        recovered is not None and recovered <= RECOVERED_AFTER and found.ratio <= CHANGE,
        recovered,
        float(_over(*summed, pupil.window).max()),
    )


def control(part: Part, pupil: Pupil, replays: Replays) -> LearningRow:
    """Where prompts are short and routing barely matters: ours beside the least loaded replica."""
    fleet = fleet_for(part, pupil.timing)
    names: Sequence[PolicyName] = (pupil.ours, "least_loaded")
    ours, least = replays.run([_replay(part, fleet, PolicySettings(name=name), "control") for name in names])
    return _row("negative control", part, "least_loaded", ours, least, CONTROL)


def learned_rates(part: Part, pupil: Pupil) -> Rates:
    """What a pupil's choices rest on when it has learned: the median over the second half of a run.

    Raises `BenchError` for a run too short to compare what is behind that.
    """
    if part.requests < 2 * pupil.learned:
        raise BenchError(f"wanted at least {2 * pupil.learned} requests of {part.name}; got {part.requests}")
    seen: list[Mapping[str, float]] = []

    def build(settings: PolicySettings, random: Random) -> Policy:
        return _Noted(build_policy(settings, random), seen)

    replay(part.trace, PolicySettings(name=pupil.ours), fleet_for(part, pupil.timing), build=build)
    late = seen[len(seen) // 2 :]
    return Rates(*(float(np.median([basis[field.name] for basis in late])) for field in fields(Rates)))


class _Noted:
    """A policy, and what each of its choices rests on."""

    def __init__(self, policy: Policy, seen: list[Mapping[str, float]]) -> None:
        self._policy = policy
        self._seen = seen

    def choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> Choice:
        choice = self._policy.choose(request, candidates)
        self._seen.append(choice.basis)
        return choice

    def learn(self, choice: Choice | None, outcome: Outcome) -> None:
        self._policy.learn(choice, outcome)


def behind(run: Run, first: int) -> Run:
    """A run without its first requests."""
    size = len(run.arrived_ms)
    if first >= size:
        raise BenchError(f"wanted more than {first} requests to compare; got {size}")
    cut: dict[str, Any] = {name: getattr(run, name)[first:] for name in _OF_REQUESTS}  # Any: a field's own type
    return replace(run, **cut)


def recovered_after(ours_ms: Floats, knew_ms: Floats, window: int) -> int | None:
    """The first decision from which on a window's length of windows lies within `CHANGE` of the reference's."""
    within = _over(ours_ms, knew_ms, window) <= CHANGE
    lasting = _rolling(within.astype(np.float64), window) == 1.0
    return int(np.argmax(lasting)) if lasting.any() else None


def _over(ours_ms: Floats, knew_ms: Floats, window: int) -> Floats:
    """Our rolling mean over the reference's, by the first decision of the window; raises for too few decisions."""
    if len(ours_ms) < 2 * window:
        raise BenchError(f"wanted at least {2 * window} requests behind the change; got {len(ours_ms)}")
    return _rolling(ours_ms, window) / _rolling(knew_ms, window)


def _rolling(values: Floats, window: int) -> Floats:
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means: Floats = (sums[window:] - sums[:-window]) / window
    return means


def _summed(runs: Sequence[Run]) -> Floats:
    """TTFTs of several runs by decisions since the change, as far as all of them go."""
    length = min(len(run.ttft_ms) for run in runs)
    return np.asarray(sum(run.ttft_ms[:length] for run in runs), np.float64)


def _row(check: str, part: Part, reference: str, ours: Run, its: Run, at_most: float) -> LearningRow:
    found = compare([ours], [its], "ttft_mean_ms")
    decisions, met = len(ours.ttft_ms), found.ratio <= at_most
    speedup = part.speedup
    return LearningRow(
        check, part.name, speedup, reference, decisions, found.ratio, found.low, found.high, at_most, met
    )


def _believing(ours: PolicyName, rates: Rates, factor: float) -> PolicySettings:
    prior = {field.name: max(factor * getattr(rates, field.name), _LEAST_RATE) for field in fields(Rates)}
    return PolicySettings.model_validate({"name": ours, ours: {"rates": prior}})


def _from(part: Part, number: int) -> Part:
    """The part without as much of its beginning as makes the runs differ, all of one length."""
    apart = part.requests // (4 * _STARTS)
    return replace(part, first=part.first + number * apart, requests=part.requests - (_STARTS - 1) * apart)


def _slow(fleet: FleetSettings, at_ms: float) -> tuple[Incident, ...]:
    return tuple(Incident(at_ms, "slows", replica, SLOWER) for replica in range(fleet.replicas // 2))


def _replay(part: Part, fleet: FleetSettings, policy: PolicySettings, said: str) -> Replay:
    return Replay(f"{part.name} {part.speedup:g}x {policy.name}, {said}", part, policy, fleet)
