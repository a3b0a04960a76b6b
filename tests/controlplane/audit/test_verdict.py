"""What findings prove: levels that are apart, that leak, and audits that prove nothing."""

from collections.abc import Mapping

import numpy as np
import pytest

from kvplane.controlplane.audit.features import Column, Columns, Feature
from kvplane.controlplane.audit.parties import Level
from kvplane.controlplane.audit.stats import Floats, floats
from kvplane.controlplane.audit.verdict import Limits, Verdict, judge

N = 2000
EVEN = floats(list(range(N)))
NONE = floats([0] * N)
CONTROL: Columns = {
    Feature.TTFT: Column(EVEN - N, EVEN),
    Feature.CACHED_TOKENS: Column(NONE + 96, NONE),
}


def apart(**changed: Column) -> Columns:
    """Features that say nothing, but for those given."""
    nothing = {Feature.TTFT: Column(EVEN, EVEN), Feature.CACHED_TOKENS: Column(NONE, NONE)}
    return nothing | {Feature(name): column for name, column in changed.items()}


def verdicts(cross: Columns, control: Columns = CONTROL) -> tuple[Verdict, Verdict, Verdict]:
    """Of the level across, of the control, of all."""
    report = judge({Level.ORGANISATIONS: cross, Level.WITHIN: control})
    of = {level: found.verdict for level, found in report.levels.items()}
    return of[Level.ORGANISATIONS], of[Level.WITHIN], report.verdict


def ahead(k: int) -> Floats:
    """Hits, of which k more than misses have come at every moment, until those end."""
    return np.concatenate([np.full(k, -1.0), EVEN[:-k]])


def test_features_that_say_nothing_beside_a_control_that_does_are_apart() -> None:
    assert verdicts(apart()) == (Verdict.APART, Verdict.SEEN, Verdict.APART)


def test_a_lead_beyond_the_critical_one_is_a_leak() -> None:
    # Four tests, two of them the control's: Holm doubles p, C(4000, 2000-k)/C(4000, 2000): 5.2e-4 for
    # k = 123, 4.6e-4 for 124.
    assert verdicts(apart(ttft=Column(ahead(124), EVEN))) == (Verdict.LEAK, Verdict.SEEN, Verdict.LEAK)
    assert verdicts(apart(ttft=Column(ahead(123), EVEN)))[0] is not Verdict.LEAK


def test_any_feature_can_leak() -> None:
    same = Column(np.repeat([1.0, 0.0], [1200, 800]), np.repeat([1.0, 0.0], [1000, 1000]))

    for name in ("replica", "queue"):
        assert verdicts(apart(**{name: same}))[0] is Verdict.LEAK


def test_one_hit_with_tokens_that_no_miss_has_is_a_leak() -> None:
    one = NONE.copy()
    one[77] = 32

    assert verdicts(apart(cached_tokens=Column(one, NONE))) == (Verdict.LEAK, Verdict.SEEN, Verdict.LEAK)
    assert verdicts(apart(cached_tokens=Column(one, one)))[0] is Verdict.APART


def test_a_bound_above_the_limit_proves_nothing_and_is_no_leak() -> None:
    few = Column(EVEN[:20], EVEN[:20])  # an AUC of 0.5, at most 0.65
    level = {Feature.TTFT: few, Feature.CACHED_TOKENS: Column(NONE[:20], NONE[:20])}

    assert verdicts(level) == (Verdict.UNPROVEN, Verdict.SEEN, Verdict.UNPROVEN)
    assert judge({Level.WORKSPACES: level}, Limits(auc_upper=0.7)).levels[Level.WORKSPACES].verdict is Verdict.APART


@pytest.mark.parametrize("feature", [Feature.TTFT, Feature.CACHED_TOKENS])
def test_a_control_that_sees_nothing_proves_nothing(feature: Feature) -> None:
    blind: Mapping[Feature, Column] = {**CONTROL, feature: apart()[feature]}

    assert verdicts(apart(), blind) == (Verdict.APART, Verdict.UNPROVEN, Verdict.UNPROVEN)
    assert verdicts(apart(ttft=Column(ahead(200), EVEN)), blind)[2] is Verdict.LEAK


def test_without_a_control_nothing_is_proven() -> None:
    assert judge({Level.ORGANISATIONS: apart()}).verdict is Verdict.UNPROVEN


def test_a_finding_has_the_means_as_they_were_and_the_adjusted_p() -> None:
    report = judge({Level.ORGANISATIONS: apart(), Level.WITHIN: CONTROL})

    cached = report.levels[Level.WITHIN].features[Feature.CACHED_TOKENS]
    assert (cached.n, cached.auc, cached.auc_upper, cached.beyond) == (N, 1.0, 1.0, N)
    assert (cached.hit_mean, cached.miss_mean) == (96, 0)
    assert cached.p_holm < 1e-300
    assert report.levels[Level.ORGANISATIONS].features[Feature.TTFT].p_holm == 1
