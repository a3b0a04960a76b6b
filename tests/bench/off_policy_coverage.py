"""The off-policy benchmark: how often the truth lies in the interval that a log with exploration gives.

What every placement of a decision would have found cached is what its replica's page, and the tickets under way to it,
said as the choice was made. Without lag that comes true, which `as_foretold` shows for the placements that were made;
so the truth about another policy is the mean over its own choices in the same states. The log has it of one placement
each, and there as the replica itself found it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.off_policy import Estimate, Logged, doubly_robust, ips, snips
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.reward_model import cross_fitted
from kvplane.controlplane.replay.run import Floats, Ints
from kvplane.controlplane.replay.timing import Step, Timing
from kvplane.policies import Policy, PolicyName, PolicySettings, build_policy

from .errors import BenchError
from .logging_policy import LoggingPolicy, Named, Offer
from .off_policy_rows import CoverageRow
from .replays import each, say
from .workloads import Part, fleet_for

PAIRS: Sequence[tuple[PolicyName, PolicyName]] = (
    ("adaptive", "least_loaded"),
    ("dynamo", "lmetric"),
    ("dynamo", "adaptive"),
)
COVERED, DIFFER = 0.90, 0.20  # at least: of the seeds, and of the choices

ESTIMATORS: Mapping[str, Callable[[Logged], Estimate]] = {"IPS": ips, "SNIPS": snips, "DR": doubly_robust}


@dataclass(frozen=True, slots=True)
class Trial:
    """One log to make, and what to estimate from it."""

    part: Part
    logging: PolicyName
    target: PolicyName
    fleet: FleetSettings
    floor: float
    seed: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one log gave: per reward the truth and each estimate."""

    differ: float
    as_foretold: float
    truths: Mapping[str, float]
    estimates: Mapping[tuple[str, str], Estimate]  # by reward and estimator


def off_policy_coverage(
    part: Part, pairs: Sequence[tuple[PolicyName, PolicyName]], floor: float, seeds: int, timing: str, jobs: int
) -> Iterator[CoverageRow]:
    """Make a log with each seed for each pair, and count the intervals that hold the truth."""
    fleet = fleet_for(part, timing)
    for logging, target in pairs:
        trials = [Trial(part, logging, target, fleet, floor, seed) for seed in range(1, seeds + 1)]
        found = []
        for _, one in each(tried, trials, jobs):
            found.append(one)
            say(f"{logging} for {target}: {len(found)} of {seeds} logs")
        yield from coverage_rows(trials[0], found)


def coverage_rows(trial: Trial, found: Sequence[Found]) -> Iterator[CoverageRow]:
    """Sum up the logs of trials that differ in their seeds alone."""
    differ = float(np.mean([one.differ for one in found]))
    for reward, estimator in found[0].estimates:
        pairs = [(one.truths[reward], one.estimates[reward, estimator]) for one in found]
        covered = float(np.mean([estimate.low <= truth <= estimate.high for truth, estimate in pairs]))
        yield CoverageRow(
            logging=trial.logging,
            target=trial.target,
            reward=reward,
            estimator=estimator,
            seeds=len(found),
            decisions=trial.part.requests,
            floor=trial.floor,
            differ=differ,
            covered=covered,
            truth=float(np.mean([truth for truth, _ in pairs])),
            width=float(np.mean([estimate.high - estimate.low for _, estimate in pairs])),
            error=float(np.mean([abs(estimate.value - truth) for truth, estimate in pairs])),
            doubted=float(np.mean([bool(estimate.doubt) for _, estimate in pairs])),
            as_foretold=float(np.mean([one.as_foretold for one in found])),
            met=covered >= COVERED and differ >= DIFFER,
        )


def tried(trial: Trial) -> Found:
    """Make one log and estimate the other policy from it. Raises `BenchError` where a decision was not logged."""
    log: list[Offer] = []

    def build(settings: PolicySettings, random: Random) -> Policy:
        policy = Named(trial.logging, build_policy(settings, Random(random.random())))
        target = Named(trial.target, build_policy(PolicySettings(name=trial.target), Random(random.random())))
        return LoggingPolicy(policy, target, trial.floor, random, log)

    trace = trial.part.trace
    run = replay(trace, PolicySettings(name=trial.logging), trial.fleet, trial.seed, build=build)
    if len(log) != len(trace.requests):
        raise BenchError(f"{trial.logging} decided {len(log)} of {len(trace.requests)} requests")
    return estimated(log, run.cached_tokens, trial.fleet)


def estimated(log: Sequence[Offer], found_cached: Ints, fleet: FleetSettings) -> Found:
    """Compare estimates with the truth; `found_cached` are the tokens that each replica taken found."""
    cached, taken = np.array([offer.cached_tokens for offer in log]), np.array([offer.taken for offer in log])
    own, target = np.array([offer.own for offer in log]), np.array([offer.target for offer in log])
    propensity = np.array([offer.propensity for offer in log])
    rows = np.arange(len(log))
    as_foretold = float(np.mean(cached[rows, taken] == found_cached))
    cached[rows, taken] = found_cached
    features, rewards = _features(log, cached), _rewards(log, cached, fleet)
    truths: dict[str, float] = {}
    estimates: dict[tuple[str, str], Estimate] = {}
    for name, reward in rewards.items():
        models = cross_fitted(features[rows, taken], features, target, reward[rows, taken])
        logged = Logged(propensity, reward[rows, taken], target[rows, taken], *models)
        truths[name] = float((target * reward).sum(axis=1).mean())
        estimates |= {(name, estimator): estimate(logged) for estimator, estimate in ESTIMATORS.items()}
    return Found(float(0.5 * np.abs(target - own).sum(axis=1).mean()), as_foretold, truths, estimates)


def _rewards(log: Sequence[Offer], cached: Ints, fleet: FleetSettings) -> Mapping[str, Floats]:
    """What every placement would have given, shape (n, replicas)."""
    prompts = [offer.prompt_tokens for offer in log]
    alone = [
        [alone_ms(fleet.timing, prompt, held, fleet.token_budget) for held in row]
        for prompt, row in zip(prompts, cached.tolist(), strict=True)
    ]
    return {"cached share": cached / np.array(prompts)[:, None], "prefill ms": np.array(alone)}


def alone_ms(timing: Timing, prompt_tokens: int, cached_tokens: int, token_budget: int) -> float:
    """Prefill on a replica that does nothing else: steps of at most the budget, over what was there before each."""
    total = 0.0
    for before in range(cached_tokens, prompt_tokens, token_budget):
        new = min(token_budget, prompt_tokens - before)
        total += timing.step_ms(Step(1, new, before, 0, 0, capacity_tokens=1))
    return total


def _features(log: Sequence[Offer], cached: Ints) -> Floats:
    """What a model of rewards may see of each placement, shape (n, replicas, 5)."""
    prompts = np.array([offer.prompt_tokens for offer in log])[:, None]
    uncached = prompts - cached
    waiting = np.array([offer.waiting_tokens for offer in log])
    running = np.array([offer.running_sequences for offer in log])
    columns = (cached / prompts, uncached, uncached * (prompts + cached), waiting, running)
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=2)
