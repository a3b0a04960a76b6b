"""The command line answers --help everywhere, prints JSON where figures are, and says what to do when it cannot."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvplane.controlplane import cli
from kvplane.directory import Served
from kvplane.tests.routers import asked, decide, router, words

RUN = CliRunner()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with one decision and its outcome."""
    from kvplane.controlplane.tracing import TracingSettings, open_tracing
    from kvplane.policies import RoundRobin

    decided = decide(router(RoundRobin()), asked(words(1, 2, 3)))
    with open_tracing(TracingSettings(), tmp_path / "decisions.sqlite", "r1") as tracer:
        tracer.route(decided.decision)
        tracer.outcome("a", Served(decided.ticket.id, "r1", "stop", 3, 0, 5, 1.0, 2.0, 9.0))
    return tmp_path


@pytest.mark.parametrize("command", [[], ["up"], ["status"], ["config"], ["decisions"], ["demo"], ["directory"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = RUN.invoke(cli.app, [*command, "--help"])

    assert result.exit_code == 0
    assert "Usage" in result.output


def test_decisions_are_a_table_json_or_words(state: Path) -> None:
    table = RUN.invoke(cli.app, ["decisions", "--state", str(state)])
    [row] = json.loads(RUN.invoke(cli.app, ["decisions", "--state", str(state), "--json"]).output)
    told = RUN.invoke(cli.app, ["decisions", "--state", str(state), "--id", row["id"][:6]])

    assert "acme/default" in table.output
    assert row["actual_ttft_ms"] == 3.0
    assert row["id"] in told.output
    assert "Reported:" in told.output


@pytest.mark.parametrize("query", [["--tenant", "globex/default"], ["--replica", "b"], ["--min-error", "1"]])
def test_a_query_that_nothing_meets_is_an_empty_list(state: Path, query: list[str]) -> None:
    result = RUN.invoke(cli.app, ["decisions", "--state", str(state), "--json", *query])

    assert json.loads(result.output) == []


def test_since_takes_a_span_or_a_time_and_nothing_else(state: Path) -> None:
    recent = RUN.invoke(cli.app, ["decisions", "--state", str(state), "--since", "10m", "--json"])
    wrong = RUN.invoke(cli.app, ["decisions", "--state", str(state), "--since", "yesterday"])

    assert len(json.loads(recent.output)) == 1
    assert wrong.exit_code == 2


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["decisions", "--state", "nowhere"], "no decisions in"),
        (["status", "--state", "nowhere"], "state folder"),
        (["directory", "verify", "--state", "nowhere"], "state folder"),
        (["config", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["kvplane", *arguments])

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 2
    assert wanted in capsys.readouterr().err


def test_config_prints_what_is_in_force_and_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("replicas: {count: 7}")
    effective = json.loads(RUN.invoke(cli.app, ["config", "--config", str(path), "--json"]).output)
    schema = json.loads(RUN.invoke(cli.app, ["config", "--schema", "--json"]).output)

    assert effective["replicas"]["count"] == 7
    assert "replicas" in schema["properties"]
