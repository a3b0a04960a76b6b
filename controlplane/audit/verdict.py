"""What an audit found: every feature of every level tested, and what that proves."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .features import Column, Columns, Feature
from .parties import Level
from .stats import auc, auc_upper, beyond, holm, ks_p

_CONTROLS = (Feature.TTFT, Feature.CACHED_TOKENS)


class Verdict(StrEnum):
    """Of a level, and of all of them."""

    APART = "apart"  # what there is to see is too little to use
    LEAK = "leak"
    UNPROVEN = "unproven"  # neither: more samples, longer prompts
    SEEN = "seen"  # the control's own: an audit like this one sees sharing where it is


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as what. Of 2,000 samples that are alike the bound is above `auc_upper` 6 times in 100,000."""

    auc_upper: float = 0.55
    p_holm: float = 1e-3
    control_p: float = 1e-8  # the level at which the paper speaks of a cache


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature at one level."""

    n: int
    auc: float
    auc_upper: float
    p: float
    p_holm: float
    beyond: int  # hits that no miss is like
    hit_mean: float
    miss_mean: float


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level's features, and what they prove."""

    features: Mapping[Feature, Finding]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """The whole audit."""

    levels: Mapping[Level, LevelReport]

    @property
    def verdict(self) -> Verdict:
        """A leak is one even where the control fails; nothing else is proven then."""
        of = [each.verdict for each in self.levels.values()]
        if Verdict.LEAK in of:
            return Verdict.LEAK
        return Verdict.APART if Verdict.UNPROVEN not in of and Verdict.SEEN in of else Verdict.UNPROVEN


def judge(levels: Mapping[Level, Columns], limits: Limits | None = None) -> Report:
    """Test everything, adjusted for how much that is."""
    bounds = limits or Limits()
    ps = {(level, each): ks_p(*each.oriented(column)) for level, of in levels.items() for each, column in of.items()}
    adjusted = holm(ps)
    reports = {}
    for level, of in levels.items():
        found = {each: _finding(each, of[each], ps[level, each], adjusted[level, each]) for each in of}
        reports[level] = LevelReport(found, (_control if level is Level.WITHIN else _cross)(found, bounds))
    return Report(reports)


def _finding(feature: Feature, column: Column, p: float, p_holm: float) -> Finding:
    hits, misses = feature.oriented(column)
    return Finding(
        n=len(hits),
        auc=auc(hits, misses),
        auc_upper=auc_upper(hits, misses),
        p=p,
        p_holm=p_holm,
        beyond=beyond(hits, misses),
        hit_mean=float(column.hits.mean()),
        miss_mean=float(column.misses.mean()),
    )


def _control(found: Mapping[Feature, Finding], limits: Limits) -> Verdict:
    return Verdict.SEEN if all(found[each].p < limits.control_p for each in _CONTROLS) else Verdict.UNPROVEN


def _cross(found: Mapping[Feature, Finding], limits: Limits) -> Verdict:
    """Cached tokens are counted, not measured: a single hit beyond all misses is one prompt that was shared."""
    if any(each.p_holm < limits.p_holm for each in found.values()) or found[Feature.CACHED_TOKENS].beyond:
        return Verdict.LEAK
    return Verdict.APART if all(each.auc_upper <= limits.auc_upper for each in found.values()) else Verdict.UNPROVEN
