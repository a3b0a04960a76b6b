"""Several policies on the same requests: their runs, and which differences are more than chance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...policies import PolicySettings
from .compare import LEAST, Comparison, Metric, compare
from .fleet import FleetSettings
from .references import infinite_hit_rate, pooled_hit_rate
from .replayer import ORACLE, Progress, replay
from .report import Report, facts
from .run import Run
from .summary import Slo, mean, summarise
from .trace import Trace, scaled

METRICS: Sequence[Metric] = ("ttft_mean_ms", "ttft_p99_ms", "hit_rate")  # that verdicts are about
_SHIFTED = 10  # all runs begin within this part of the trace

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every policy's runs by its label, the oracle's last, and the report of them."""

    runs: Mapping[str, Sequence[Run]]
    report: Report


def campaign(
    trace: Trace,
    policies: Mapping[str, PolicySettings],
    fleet: FleetSettings,
    *,
    seed: int = 1,
    runs: int = 1,
    slo: Slo | None = None,
    references: bool = True,
    told: Told | None = None,
) -> Replayed:
    """Replay each policy on the same starts with the same seeds; compare the first with every other and the oracle.

    `told` hears, by label, how many requests of how many in all runs have been decided. Without `references` the oracle
    and the ceilings are left out; of fewer than `compare.LEAST` requests, the comparisons. Raises `BadTrace`.
    """
    starts = shifted(trace, runs)
    contenders: dict[str, PolicySettings | None] = {**policies, **({ORACLE: None} if references else {})}
    found = {
        label: _runs(label, settings, starts, fleet, seed, told or (lambda label, done, total: None))
        for label, settings in contenders.items()
    }
    summaries = {label: [summarise(run, slo) for run in its] for label, its in found.items()}
    blocks = (fleet.blocks + fleet.cpu_blocks + fleet.disk_blocks) * len(fleet.names)
    report = Report(
        trace=facts(trace),
        policies={label: summaries[label] for label in policies},
        comparisons=_comparisons(found),
        infinite_hit_rate=_mean(map(infinite_hit_rate, starts)) if references else None,
        pooled_hit_rate=_mean(pooled_hit_rate(start, blocks) for start in starts) if references else None,
        oracle=summaries.get(ORACLE, ()),
    )
    return Replayed(found, report)


def shifted(trace: Trace, runs: int) -> Sequence[Trace]:
    """The trace for each run, every one without some more of the first requests than the one before.

    What comes together in a queue or a cache then differs, as it does not between seeds where a policy draws nothing.
    """
    step = max(1, len(trace.requests) // (_SHIFTED * runs))
    return [scaled(trace, start=number * step) for number in range(runs)]


def _runs(
    label: str, settings: PolicySettings | None, starts: Sequence[Trace], fleet: FleetSettings, seed: int, told: Told
) -> Sequence[Run]:
    total, before, found = sum(len(start.requests) for start in starts), 0, []
    for number, start in enumerate(starts):
        run = replay(start, settings, fleet, seed + number, _counting(label, before, total, told))
        found.append(replace(run, policy=label))
        before += len(start.requests)
    return found


def _counting(label: str, before: int, total: int, told: Told) -> Progress:
    return lambda done: told(label, before + done, total)


def _comparisons(found: Mapping[str, Sequence[Run]]) -> Sequence[Comparison]:
    (_, first), *others = found.items()
    if min(len(run.arrived_ms) for run in first) < LEAST:
        return ()
    return [compare(first, other, metric) for _, other in others for metric in METRICS]


def _mean(values: Iterable[float]) -> float:
    return mean(np.fromiter(values, np.float64))
