"""The routing benchmarks from the command line: what they print, and what they say to what cannot be."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kvplane.policies.rates import Rates
from kvplane.tests.bench import routing_commands
from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.learning import Pupil
from kvplane.tests.bench.routing_commands import learning_command, off_policy_command, routers_command, routing_command
from kvplane.tests.bench.workloads import Part
from kvplane.tests.bench_tests.made_traces import made_traces

app = typer.Typer()
app.command("routing")(routing_command)
app.command("learning")(learning_command)
app.command("routers")(routers_command)
app.command("off-policy")(off_policy_command)


def run(folder: Path, *args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [args[0], "--traces", str(folder), *args[1:]])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("routing", "--workload", "other"), "wanted a trace 'other'"),
        (("routing", "--workload", "made", "--ours", "oracle"), "wanted a policy of round_robin, random,"),
        (("routing", "--workload", "made", "--speedups", "1,2"), "wanted speedups above 1, as in 2,3,4; got '1,2'"),
        (("routing", "--workload", "made", "--speedups", "fast"), "wanted speedups above 1"),
        (("routers", "--workload", "made", "--speedups", "0"), "wanted speedups above 0"),
        (("routers", "--workload", "made", "--timing", "abacus"), "there is no timing 'abacus'"),
        (("off-policy", "--workload", "made", "--pair", "dynamo"), "wanted two policies as logged:estimated"),
        (("learning", "--workload", "made", "--control", "made"), "wanted at least 4000 requests of made; got 60"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(args: Sequence[str], told: str, tmp_path: Path) -> None:
    code, _, err = run(made_traces(tmp_path, 60), *args)

    assert code == 1
    assert told in err
    assert err.count("\n") == 1


def test_learning_is_as_fast_as_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(part: Part, pupil: Pupil) -> Rates:
        raise BenchError(f"{pupil.ours} at {part.speedup}x")

    monkeypatch.setattr(routing_commands, "learned_rates", told)
    args = ("--workload", "made", "--control", "made", "--ours", "lmetric", "--speedup", "7")

    assert "lmetric at 7.0x" in run(made_traces(tmp_path, 60), "learning", *args)[2]


def test_off_policy_rows_are_printed_for_a_machine(tmp_path: Path) -> None:
    folder = made_traces(tmp_path, 60)
    pair = ("--pair", "dynamo:least_loaded", "--floor", "0.2")

    code, out, _ = run(folder, "off-policy", "--workload", "made", *pair, "--seeds", "1", "--json")

    rows = json.loads(out)
    assert code == 0
    assert {(row["logging"], row["target"], row["floor"]) for row in rows} == {("dynamo", "least_loaded", 0.2)}
    assert len(rows) == 6


def test_off_policy_rows_are_printed_for_people(tmp_path: Path) -> None:
    folder = made_traces(tmp_path, 60)

    code, out, _ = run(folder, "off-policy", "--workload", "made", "--pair", "dynamo:least_loaded", "--seeds", "1")

    assert code == 0
    assert "least_loaded, from 1 logs of 60 decisions by dynamo" in out
    assert out.count("SNIPS") == 2


def test_routers_keep_what_they_replayed(tmp_path: Path) -> None:
    folder, keep = made_traces(tmp_path / "traces", 60), tmp_path / "keep"
    args = ("routers", "--workload", "made", "--speedups", "1,2", "--keep", str(keep))

    code, out, err = run(folder, *args)
    again = run(folder, *args)

    assert (code, err.count("routers: TTFT")) == (0, 4)
    assert again == (0, out, "")
    assert len(list(keep.iterdir())) == 4


def test_every_row_of_the_routing_table_fits_on_a_terminal_of_eighty_columns(tmp_path: Path) -> None:
    folder, keep = made_traces(tmp_path / "traces", 60), tmp_path / "keep"
    args = ("routing", "--workload", "made", "--speedups", "200", "--keep", str(keep))

    code, out, err = run(folder, *args)

    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines() if line.startswith(" least_")].count(
        "least_recently_used"
    ) == 2
    assert "made 200x, 40 requests: " in out
    assert max(map(len, out.splitlines())) <= 80
