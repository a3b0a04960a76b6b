"""Which requests of which trace are replayed, on what fleet."""

from pathlib import Path

import pytest

from kvplane.tests.bench.errors import BenchError
from kvplane.tests.bench.workloads import Part, fleet_for, parts
from kvplane.tests.bench_tests.made_traces import made_traces


def test_a_trace_is_taken_whole_or_as_far_as_is_asked(tmp_path: Path) -> None:
    folder = made_traces(tmp_path, 50)

    whole, few, fewer = (
        parts(folder, [asked], most)[0] for asked, most in (("made", None), ("made:30", 40), ("made", 20))
    )

    assert [each.requests for each in (whole, few, fewer)] == [50, 30, 20]
    assert {each.name for each in (whole, few, fewer)} == {"made"}


def test_a_part_begins_at_0_and_comes_as_fast_as_is_asked(tmp_path: Path) -> None:
    part = Part(made_traces(tmp_path, 50) / "made.jsonl", first=10, requests=3, speedup=4.0)

    requests = part.trace.requests

    assert [request.at_ms for request in requests] == [0.0, 10.0, 20.0]
    assert [request.prompt_tokens for request in requests] == [64 * 6 - 1] * 3  # the second turn of each conversation


def test_every_replica_has_a_cache_of_a_million_tokens(tmp_path: Path) -> None:
    fleet = fleet_for(parts(made_traces(tmp_path, 10), ["made"])[0], "dynamo")

    assert (fleet.replicas, fleet.blocks) == (8, 1_048_576 // 64)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("other", "wanted a trace 'other' in .*; there are made"),
        ("made:11", "wanted 11 requests of .*made.jsonl; it has 10"),
        ("made:0", "wanted a trace's name, or name:requests; got 'made:0'"),
        ("made:all", "wanted a trace's name, or name:requests; got 'made:all'"),
    ],
)
def test_a_trace_that_cannot_be_had_is_an_error(asked: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=told):
        parts(made_traces(tmp_path, 10), [asked])


def test_a_trace_that_does_not_parse_is_told_with_its_line(tmp_path: Path) -> None:
    path = made_traces(tmp_path, 3) / "made.jsonl"
    path.write_text(path.read_text("utf-8") + "{}\n", "utf-8")

    with pytest.raises(BenchError, match=r"made\.jsonl, line 4"):
        parts(tmp_path, ["made"])


def test_an_unknown_engine_is_an_error(tmp_path: Path) -> None:
    part = parts(made_traces(tmp_path, 10), ["made"])[0]

    with pytest.raises(BenchError, match="there is no timing 'abacus'"):
        fleet_for(part, "abacus")
