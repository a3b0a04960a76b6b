"""The best setting of a policy on the first part of a trace, judged on the rest."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from signal import SIG_DFL, SIGINT, signal

from ...policies import PolicyName, PolicySettings, variants
from .compare import LEAST, Comparison, Metric, compare
from .fleet import FleetSettings
from .replayer import replay
from .run import Run
from .summary import Summary, summarise
from .trace import BadTrace, Trace, scaled

_PARTS = 3  # on the first of them settings are tried

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting, and what it came to on the first part."""

    label: str
    settings: PolicySettings
    summary: Summary


@dataclass(frozen=True, slots=True)
class Tuned:
    """Every setting, the best first, and how that one does on the rest, which begins with empty caches."""

    metric: Metric
    tried: Sequence[Tried]
    run: Run  # of the best, on the rest
    default: Run  # of the default setting, on the rest
    judged: Comparison  # the best with the default, on the rest

    @property
    def best(self) -> Tried:
        return self.tried[0]

    @property
    def is_default(self) -> bool:
        """Whether nothing was better than the default, even where it was tried."""
        return self.run is self.default


def tune(
    trace: Trace,
    name: PolicyName,
    fleet: FleetSettings,
    *,
    metric: Metric = "ttft_mean_ms",
    seed: int = 1,
    jobs: int = 1,
    told: Told | None = None,
) -> Tuned:
    """Try each of `variants(name)`, and the default, on the first third; judge the best on the rest.

    `told` hears what is under way, and how many replays of how many have ended. More than one of `jobs` run in
    processes of their own. Raises `BadTrace`, also where a third has fewer than `compare.LEAST` requests.
    """
    first, rest = _parts(trace)
    replays = _Replays(fleet, seed, jobs, told or (lambda what, done, total: None))
    settings = settings_worth_trying(name)
    runs = replays.run("trying", first, list(settings.values()))
    tried = [Tried(label, each, summarise(run)) for (label, each), run in zip(settings.items(), runs, strict=True)]
    tried.sort(key=lambda each: _cost(each.summary, metric))
    best, default = tried[0], next(each for each in tried if each.settings == PolicySettings(name=name))
    both = [best] if best is default else [best, default]
    on_rest = replays.run("judging", rest, [each.settings for each in both])
    named = [replace(run, policy=each.label) for each, run in zip(both, on_rest, strict=True)]
    return Tuned(metric, tried, named[0], named[-1], compare(named[:1], named[-1:], metric))


def settings_worth_trying(name: PolicyName) -> Mapping[str, PolicySettings]:
    """By label; the default is always one of them."""
    default = PolicySettings(name=name)
    others = {label: each for label, each in variants(name) if each != default}
    return {f"{name} (default)": default, **others}


@dataclass(frozen=True, slots=True)
class _Replays:
    """Replays on the same fleet with the same seed."""

    fleet: FleetSettings
    seed: int
    jobs: int
    told: Told

    def run(self, what: str, trace: Trace, settings: Sequence[PolicySettings]) -> Sequence[Run]:
        self.told(what, 0, len(settings))
        if self.jobs == 1 or len(settings) == 1:
            return [self._here(what, trace, settings, at) for at in range(len(settings))]
        with ProcessPoolExecutor(
            min(self.jobs, len(settings)),
            get_context("spawn"),
            initializer=signal,
            initargs=(SIGINT, SIG_DFL),  # end with the command, and say nothing
        ) as pool:
            try:
                futures = [pool.submit(replay, trace, each, self.fleet, self.seed) for each in settings]
                for done, _ in enumerate(as_completed(futures), 1):
                    self.told(what, done, len(settings))
                return [future.result() for future in futures]
            finally:
                pool.shutdown(cancel_futures=True)

    def _here(self, what: str, trace: Trace, settings: Sequence[PolicySettings], at: int) -> Run:
        run = replay(trace, settings[at], self.fleet, self.seed)
        self.told(what, at + 1, len(settings))
        return run


def _parts(trace: Trace) -> tuple[Trace, Trace]:
    """The first third, and the rest."""
    size = len(trace.requests) // _PARTS
    if size < LEAST:
        raise BadTrace(
            trace.name, None, f"wanted at least {_PARTS * LEAST} requests to tune on, got {len(trace.requests)}"
        )
    return scaled(trace, requests=size), scaled(trace, start=size)


def _cost(summary: Summary, metric: Metric) -> float:
    """Lower is better; a setting that answered nothing is never the best."""
    value: float = getattr(summary, metric)
    return math.inf if math.isnan(value) else -value if metric == "hit_rate" else value
