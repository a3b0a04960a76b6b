"""The audit on a real Ray and real engines: tenants are apart, and an application that does not part them is caught."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvplane.controlplane.audit.features import Feature
from kvplane.controlplane.audit.parties import CROSS, Level, pair_up, read_parties
from kvplane.controlplane.audit.procedure import Plan
from kvplane.controlplane.audit.run import audit
from kvplane.controlplane.audit.verdict import Limits, Report, Verdict
from kvplane.controlplane.config import Settings
from kvplane.controlplane.local import Machine, Serving

pytestmark = pytest.mark.walk

TENANTS = """
tenants:
  - {organisation: acme, workspace: support, keys: [sk-acme-support-0001]}
  - {organisation: acme, workspace: research, keys: [sk-acme-research-001]}
  - {organisation: globex, keys: [sk-globex-default-01]}
"""
SAMPLES = 120
# The AUC of 120 hits and as many misses that are alike deviates by sqrt(241 / 12) / 120 = 0.037. The bound adds 1.645
# of that, and 3.7 more is one null in ten thousand: 0.70, where 2,000 samples give 0.55.
LIMITS = Limits(auc_upper=0.70)


def settings_in(folder: Path, isolation: bool) -> Settings:
    (folder / "tenants.yaml").write_text(TENANTS)
    engine = {"model": "tiny", "blocks": 256, "max_context": 4096}
    return Settings.load(None, engine=engine, replicas={"count": 2}, state=folder, isolation=isolation)


def audited(serving: Serving, settings: Settings, levels: tuple[Level, ...]) -> Report:
    pairs = pair_up(read_parties(settings.tenants_file, ()), levels)
    plan = Plan(SAMPLES, tokens=100, fraction=0.95, victim_requests=1, seed=1)
    return audit(serving.url, pairs, plan, settings.decisions_file, LIMITS)


@pytest.fixture(scope="module")
def isolated(ray_machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    settings = settings_in(tmp_path_factory.mktemp("isolated"), isolation=True)
    with ray_machine.serving(settings) as serving:
        yield audited(serving, settings, CROSS)


def test_tenants_and_workspaces_see_nothing_of_one_another(isolated: Report) -> None:
    assert {level: isolated.levels[level].verdict for level in CROSS} == dict.fromkeys(CROSS, Verdict.APART)
    assert all(list(isolated.levels[level].features) == list(Feature) for level in CROSS)
    assert all(isolated.levels[level].features[Feature.CACHED_TOKENS].hit_mean == 0 for level in CROSS)


def test_the_audit_sees_a_keys_own_cache_in_every_way_there_is(isolated: Report) -> None:
    own = isolated.levels[Level.WITHIN].features

    assert isolated.verdict is Verdict.APART
    for feature in (Feature.TTFT, Feature.CACHED_TOKENS, Feature.SERVER_TTFT, Feature.REPLICA):
        assert own[feature].p < 1e-8
    assert own[Feature.CACHED_TOKENS].auc > 0.8


def test_an_application_that_does_not_part_tenants_is_caught(ray_machine: Machine, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, isolation=False)
    with ray_machine.serving(settings) as serving:
        report = audited(serving, settings, (Level.ORGANISATIONS,))

    assert report.verdict is Verdict.LEAK
    seen = report.levels[Level.ORGANISATIONS].features
    for feature in (Feature.TTFT, Feature.CACHED_TOKENS, Feature.SERVER_TTFT, Feature.REPLICA):
        assert seen[feature].p < 1e-8
