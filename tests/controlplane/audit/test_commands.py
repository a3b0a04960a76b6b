"""`kvplane audit` from its words to its exit code, on a deployment in memory."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from kvplane.controlplane.audit import ask, audit_command, run
from kvplane.controlplane.audit.errors import AuditFailed
from kvplane.controlplane.decisions import DecisionRow, Decisions
from kvplane.tests.controlplane.audit.made_deployment import PARTIES, MadeDeployment

KEYS = [f"--key={party.name}={party.key}" for party in PARTIES]

Audit = Callable[..., Result]


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Audit:
    def audit(made: MadeDeployment, *words: str, samples: int = 400) -> Result:
        def find(self: Decisions, last: int, since: float) -> Sequence[DecisionRow]:
            return [row for row in made.rows if row.at_ns >= since * 1e9][-last:]

        monkeypatch.setattr(ask, "asking", made.asking)
        monkeypatch.setattr(Decisions, "find", find)
        app = typer.Typer()
        app.command()(audit_command)
        result = CliRunner().invoke(app, [*KEYS, "--samples", str(samples), "--tokens", "40", *words])
        assert "sk-" not in result.output
        return result

    return audit


def found(result: Result) -> dict[str, str]:
    return {level: each["verdict"] for level, each in json.loads(result.stdout)["levels"].items()}


def test_tenants_that_are_apart_are_said_to_be_so(audited: Audit) -> None:
    result = audited(MadeDeployment(seed=3), samples=1000)

    assert result.exit_code == 0, result.output
    assert "organisations: nothing to see" in result.output
    assert "within: the control" in result.output
    assert "<1e-300" in result.output


def test_a_cache_shared_by_all_leaks_at_each_level(audited: Audit) -> None:
    result = audited(MadeDeployment("all"), "--json")

    assert result.exit_code == 1
    assert found(result) == {"organisations": "leak", "workspaces": "leak", "within": "seen"}
    features = json.loads(result.stdout)["levels"]["organisations"]["features"]
    assert list(features) == ["ttft", "cached_tokens"]
    assert all(each["p"] < 1e-8 and each["n"] == 400 for each in features.values())


def test_a_cache_shared_by_an_organisation_leaks_between_its_workspaces_only(audited: Audit) -> None:
    result = audited(MadeDeployment("organisation"), "--json", "--level", "workspaces")

    assert result.exit_code == 1
    assert found(result) == {"workspaces": "leak", "within": "seen"}


def test_an_audit_that_cannot_see_its_own_cache_proves_nothing(audited: Audit) -> None:
    result = audited(MadeDeployment(noise_ms=10_000), "--level", "organisations")

    assert result.exit_code == 3
    assert "within: the control failed" in result.output


def test_too_few_samples_are_no_leak_and_no_failed_control(audited: Audit) -> None:
    result = audited(MadeDeployment(), "--level", "organisations", samples=20)

    assert result.exit_code == 3
    assert "organisations: nothing proven: take more --samples" in result.output
    assert "within: the control: " in result.output


def test_with_the_state_folder_placements_are_audited_too(audited: Audit, tmp_path: Path) -> None:
    result = audited(MadeDeployment("all"), "--json", "--state", str(tmp_path))

    features = json.loads(result.stdout)["levels"]["organisations"]["features"]
    assert list(features) == ["ttft", "cached_tokens", "server_ttft", "replica", "queue"]
    assert features["replica"]["hit_mean"] == 1
    assert 0.4 < features["replica"]["miss_mean"] < 0.6
    assert features["queue"]["auc"] == 0.5


def test_without_keys_nothing_is_asked() -> None:
    app = typer.Typer()
    app.command()(audit_command)

    assert isinstance(CliRunner().invoke(app, []).exception, AuditFailed)


def test_without_httpx_it_says_what_to_install(audited: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)

    assert "kvplane[audit]" in str(audited(MadeDeployment()).exception)
