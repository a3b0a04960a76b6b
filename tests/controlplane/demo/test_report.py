"""Figures from replies whose sums can be done by hand."""

import io
import json
from pathlib import Path

from rich.console import Console

from kvplane.controlplane.demo.drive import Failure, Reply
from kvplane.controlplane.demo.report import Figures, comparison, figures, show_report, write_report
from kvplane.tests.controlplane.demo.made import answer


def replies(*each: tuple[str, int, float]) -> list[Reply]:
    return [answer(tenant=tenant, cached=cached, ttft_ms=ttft_ms) for tenant, cached, ttft_ms in each]


SLOW = replies(("acme", 0, 2000.0), ("globex", 500, 3000.0))
FAST = replies(("acme", 750, 500.0), ("globex", 750, 600.0))
RUNS = {"round_robin": SLOW, "ray": [*SLOW, Failure("acme", "HTTP 503: [all] busy")], "kvplane": FAST}


def shown(runs: dict[str, list[Reply]]) -> str:
    console = Console(file=io.StringIO(), width=160)
    show_report(runs, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tokens_are_summed_and_times_are_nearest_ranks() -> None:
    got = figures(replies(*(("acme", ms, ms) for ms in range(1, 101))))

    assert got == Figures(
        requests=100,
        errors=0,
        cached_share=5050 / 100_000,
        ttft_p50_ms=50,
        ttft_p95_ms=95,
        prefill_tokens=100_000 - 5050,
    )


def test_a_failure_is_a_request_without_tokens_or_time() -> None:
    got = figures([answer(cached=250, ttft_ms=40.0), Failure("acme", "no")])

    assert (got.requests, got.errors, got.cached_share, got.ttft_p95_ms, got.prefill_tokens) == (2, 1, 0.25, 40.0, 750)


def test_where_nothing_was_answered_there_is_no_time() -> None:
    assert figures([Failure("acme", "no")]) == Figures(1, 1, 0.0, None, None, 0)


def test_the_report_has_one_object_for_each_routing_and_its_tenants(tmp_path: Path) -> None:
    write_report(RUNS, tmp_path / "report.json")

    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report) == ["round_robin", "ray", "kvplane"]
    assert report["kvplane"] == {
        "requests": 2,
        "errors": 0,
        "cached_share": 0.75,
        "ttft_p50_ms": 500.0,
        "ttft_p95_ms": 600.0,
        "prefill_tokens": 500,
        "tenants": report["kvplane"]["tenants"],
    }
    assert report["ray"]["errors"] == report["ray"]["tenants"]["acme"]["errors"] == 1
    assert report["round_robin"]["tenants"]["globex"]["prefill_tokens"] == 500


def test_the_table_has_a_row_for_each_routing_and_each_tenant_in_it() -> None:
    lines = shown(RUNS).splitlines()

    assert sum("acme" in line and "│" in line for line in lines) == 3
    kvplane = next(line for line in lines if "kvplane" in line).split("│")
    assert [cell.strip() for cell in kvplane[1:-1]] == [
        "kvplane",
        "2",
        "0",
        "75%",
        "0.50 s",
        "0.60 s",
        "500",
    ]


def test_the_first_error_of_a_routing_is_told_as_it_came() -> None:
    assert "ray: 1 requests failed, the first with: HTTP 503: [all] busy" in shown(RUNS)


def test_the_comparison_is_said_in_words_either_way() -> None:
    slow, fast = figures(SLOW), figures(FAST)

    sooner = comparison({"round_robin": slow, "ray": slow, "kvplane": fast})
    later = comparison({"round_robin": fast, "ray": fast, "kvplane": slow})

    assert sooner[0].startswith("Beside round_robin, kvplane's median first token came 4.0 times sooner, and it")
    assert sooner[0].endswith("computed 67% fewer prompt tokens.")
    assert "4.0 times later, and it computed 200% more" in later[1]


def test_nothing_is_compared_with_a_routing_that_answered_nothing() -> None:
    nothing = figures([Failure("acme", "no")])

    assert comparison({"round_robin": nothing, "ray": nothing, "kvplane": figures(FAST)}) == []
