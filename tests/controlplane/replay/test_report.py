"""The table, the words and the object say the same numbers."""

import json
import math
from io import StringIO

import pytest
from rich.console import Console

from kvplane.controlplane.replay.compare import Comparison, Metric, Verdict
from kvplane.controlplane.replay.report import WIDTH, Report, TraceFacts, facts, in_words, table, to_json
from kvplane.controlplane.replay.summary import Summary, summarise
from kvplane.controlplane.replay.trace import Trace, TraceRequest
from kvplane.tests.controlplane.replay.made_run import made_run

FACTS = TraceFacts("head", 4, 512, 400, 44, 3000.0, 1)


def summary(ttft_ms: float, cached: int = 50) -> Summary:
    run = made_run([ttft_ms] * 4, cached=[cached] * 4, replica=[0, 0, 0, 1], evicted_blocks=1200, duplicates=[34.0])
    return summarise(run)


FAILED = summarise(made_run([math.nan] * 4, replica=[-1] * 4))
COMPARISON = Comparison("ours", "theirs", "ttft_mean_ms", 0.92, 0.89, 0.95, "better")


def printed(report: Report) -> list[str]:
    console = Console(file=StringIO(), width=WIDTH, record=True)
    console.print(table(report))
    return console.export_text().splitlines()


def row(report: Report, policy: str) -> list[str]:
    return next(line.split() for line in printed(report) if line.strip().startswith(policy))


def test_a_row_has_every_figure() -> None:
    # Work: 3 x 61 and 61 tokens. Jain: 16 / (2 x 10); the most is 1.5 of the mean.
    report = Report(FACTS, {"adaptive": [summary(1234.0)]})

    figures = ["50.0", "1,234", "1,234", "1,234", "1,234", "10.0", "1,334", "100.0", "0.800", "1.50", "1,200", "34"]
    assert row(report, "adaptive") == ["adaptive", *figures]


def test_the_soonest_comes_first_and_what_never_answered_last() -> None:
    report = Report(FACTS, {"dead": [FAILED], "slow": [summary(300.0)], "fast": [summary(100.0)]})

    names = [line.split()[0] for line in printed(report) if line.split()[:1] and line.split()[0] in report.policies]

    assert names == ["fast", "slow", "dead"]
    assert row(report, "dead")[1:] == ["0.0", *["-"] * 6, "0.0", "-", "-", "0", "-", "4"]


def test_several_runs_are_shown_as_their_mean() -> None:
    report = Report(FACTS, {"adaptive": [summary(100.0), summary(200.0)]})

    assert row(report, "adaptive")[2] == "150"


def test_references_stand_below() -> None:
    report = Report(FACTS, {"adaptive": [summary(100.0)]}, (), 0.352, 0.2656, [summary(50.0)])

    firsts = [line.split()[0] for line in printed(report) if line.strip()]
    assert firsts.index("adaptive") < firsts.index("oracle") < firsts.index("pooled") < firsts.index("infinite")
    assert row(report, "oracle")[:3] == ["oracle", "50.0", "50"]
    assert row(report, "pooled") == ["pooled", "LRU", "26.6"]
    assert row(report, "infinite") == ["infinite", "cache", "35.2"]


def test_a_long_policy_and_great_numbers_fit() -> None:
    report = Report(FACTS, {"least_recently_used": [summary(123_456.0)]})

    assert not any("…" in line for line in printed(report))


@pytest.mark.parametrize(
    "metric, numbers, verdict, said",
    [
        (
            "ttft_mean_ms",
            (0.92, 0.89, 0.95),
            "better",
            "a is 8.0 % faster to the first token than b (95 % interval 5.0 to 11.0 %)",
        ),
        (
            "e2e_mean_ms",
            (1.10, 1.05, 1.20),
            "worse",
            "a is 10.0 % slower to the whole answer than b (95 % interval 5.0 to 20.0 %)",
        ),
        (
            "ttft_p99_ms",
            (0.99, 0.95, 1.02),
            "no difference shown",
            "no difference shown between a and b in the time to the first token at the 99th percentile "
            "(-1.0 %, 95 % interval -5.0 to +2.0 %)",
        ),
        (
            "hit_rate",
            (2.5, 1.0, 4.0),
            "better",
            "a finds 2.50 points more of the prompt tokens in a cache than b (95 % interval 1.00 to 4.00)",
        ),
        (
            "hit_rate",
            (-2.5, -4.0, -1.0),
            "worse",
            "a finds 2.50 points less of the prompt tokens in a cache than b (95 % interval 1.00 to 4.00)",
        ),
        (
            "hit_rate",
            (0.5, -1.0, 2.0),
            "no difference shown",
            "no difference shown between a and b in the hit rate (+0.50 points, 95 % interval -1.00 to +2.00)",
        ),
    ],
)
def test_a_verdict_is_a_sentence(
    metric: Metric, numbers: tuple[float, float, float], verdict: Verdict, said: str
) -> None:
    assert in_words(Comparison("a", "b", metric, *numbers, verdict)) == said


def test_json_has_the_names_that_others_read() -> None:
    report = Report(FACTS, {"adaptive": [summary(100.0)]}, [COMPARISON], 0.352, 0.2656, [summary(50.0)])

    told = json.loads(json.dumps(to_json(report), allow_nan=False))

    assert set(told) == {"trace", "policies", "references", "comparisons"}
    figures = told["policies"]["adaptive"]
    times = [figures[f"ttft_{name}_ms"] for name in ("mean", "p50", "p90", "p99")]
    assert (figures["hit_rate"], times, figures["tpot_mean_ms"]) == (0.5, [100.0] * 4, 10.0)
    assert (figures["e2e_mean_ms"], figures["jain"], figures["requests"], figures["runs"]) == (200.0, 0.8, 4, 1)
    assert figures["tenants"]["acme"] == {
        "requests": 4,
        "hit_rate": 0.5,
        "ttft_mean_ms": 100.0,
        "ttft_p99_ms": 100.0,
    }
    assert told["references"]["infinite"] == {"hit_rate": 0.352}
    assert told["references"]["pooled"] == {"hit_rate": 0.2656}
    assert told["references"]["oracle"]["ttft_mean_ms"] == 50.0
    assert told["comparisons"] == [
        {
            "ours": "ours",
            "theirs": "theirs",
            "metric": "ttft_mean_ms",
            "ratio": 0.92,
            "low": 0.89,
            "high": 0.95,
            "verdict": "better",
        }
    ]
    assert told["trace"]["name"] == "head"


def test_json_of_several_runs_has_their_mean_and_spread() -> None:
    told = to_json(Report(FACTS, {"adaptive": [summary(100.0), summary(200.0)]}))

    figures = json.loads(json.dumps(told))["policies"]["adaptive"]

    assert (figures["runs"], figures["ttft_mean_ms"]) == (2, 150.0)
    assert figures["spread"]["ttft_mean_ms"] == pytest.approx(50.0 * 2**0.5)
    assert figures["spread"]["hit_rate"] == 0.0


def test_json_has_none_where_there_is_no_number_and_no_reference_that_was_not_asked_for() -> None:
    told = json.loads(json.dumps(to_json(Report(FACTS, {"dead": [FAILED, FAILED]})), allow_nan=False))

    assert told["policies"]["dead"]["ttft_mean_ms"] is None
    assert told["policies"]["dead"]["spread"]["ttft_mean_ms"] is None
    assert told["references"] == {}


def test_the_facts_of_a_trace_are_counted() -> None:
    requests = [TraceRequest(0.0, 100, 10, ((0, 1),)), TraceRequest(2500.0, 600, 20, ((0, 2),), tenant="zeta")]

    assert facts(Trace("head", 512, requests)) == TraceFacts("head", 2, 512, 700, 30, 2500.0, 2)
