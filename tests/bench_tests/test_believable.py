"""Two replays of one trace, compared: what each is given, and what is said of both."""

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.trace import Trace, TraceRequest
from kvplane.tests.bench import believable as believable_module
from kvplane.tests.bench.believable import (
    Pair,
    Sizes,
    believable,
    dynamos_replay,
    our_replay,
    read_report,
    write_mooncake,
)
from kvplane.tests.bench.believable_rows import BelievableRow, Served, believable_rows, believable_table
from kvplane.tests.bench.errors import BenchError

TRACE = Trace(
    "made",
    512,
    [
        TraceRequest(0.0, 1000, 3, ((0, 2),), tenant="a"),
        TraceRequest(250.5, 1100, 2, ((0, 1), (7, 2)), tenant="b"),
    ],
)


def test_every_figure_is_set_beside_the_mean_of_dynamos_runs() -> None:
    ours = _served(ttft_ms=[90.0, 110.0], cached_tokens=[0, 210])

    rows = believable_rows("dynamo", "kv_router", ours, [_served([100.0, 140.0]), _served([60.0, 100.0])])

    found = {row.figure: row for row in rows}
    assert found["ttft_mean_ms"] == BelievableRow("dynamo", "kv_router", "ttft_mean_ms", 100, 100, 80, 120, 1.0)
    assert found["e2e_mean_ms"].ours == 1100
    assert found["tpot_mean_ms"].ours == pytest.approx((1000 / 2 + 1000 / 1) / 2)
    assert (found["reuse"].ours, found["reuse"].ratio) == (0.1, 0.0)


def test_json_rows_have_the_agreed_names() -> None:
    row = BelievableRow("round_robin", "round_robin", "reuse", 0.1, 0.1, 0.1, 0.1, 1.0)

    assert list(msgspec.to_builtins(row)) == [
        *("policy", "router_mode", "figure", "ours", "dynamo", "dynamo_low", "dynamo_high", "ratio"),
    ]


def test_the_table_says_how_far_dynamos_own_runs_lie_apart() -> None:
    rows = [
        BelievableRow("round_robin", "round_robin", "ttft_mean_ms", 326.38, 326.38, 326.38, 326.38, 1.0),
        BelievableRow("dynamo", "kv_router", "reuse", 0.2, 0.19, 0.18, 0.2, 1.0526),
    ]
    out = io.StringIO()

    Console(file=out, width=120).print(believable_table(rows))

    lines = out.getvalue().splitlines()
    assert any(
        line.split() == ["round_robin", "round_robin", "ttft_mean_ms", "326.38", "326.38", "1.0000"] for line in lines
    )
    assert any("0.18000 to 0.20000" in line for line in lines)


def test_both_replay_the_trace_as_one_tenants() -> None:
    seen: list[tuple[str, set[str]]] = []

    def ours(trace: Trace, policy: str) -> Run:
        seen.append((policy, {request.tenant for request in trace.requests}))
        return our_replay(Sizes(2, 64))(trace, policy)

    def dynamos(trace: Trace, router_mode: str) -> Served:
        seen.append((router_mode, {request.tenant for request in trace.requests}))
        return _served([10.0, 20.0])

    rows = believable(TRACE, [Pair("round_robin", "rr", 2)], ours, dynamos)

    assert seen == [("round_robin", {"default"}), ("rr", {"default"}), ("rr", {"default"})]
    # Two idle replicas: 1,000 and 1,100 tokens by Dynamo's polynomial, nothing reused.
    assert {row.figure: row.ours for row in rows}["ttft_mean_ms"] == pytest.approx((32.105859 + 33.712613) / 2)


def test_a_request_that_was_not_answered_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"Dynamo \(round_robin\) answered 1 of 2 requests"):
        believable(
            TRACE,
            [Pair("round_robin", "rr", 1)],
            our_replay(Sizes(2, 64)),
            lambda trace, router_mode: _served([10.0, np.nan]),
        )


def test_mooncakes_format_is_what_dynamo_reads(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"

    write_mooncake(TRACE, path)

    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"timestamp": 0.0, "input_length": 1000, "output_length": 3, "hash_ids": [0, 1]},
        {"timestamp": 250.5, "input_length": 1100, "output_length": 2, "hash_ids": [0, 7, 8]},
    ]


def test_dynamos_report_is_read_by_request(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    row = {"ttft_ms": 53.4, "e2e_latency_ms": 1901.2, "input_length": 2290, "reused_input_tokens": 512}
    lost = {"ttft_ms": None, "e2e_latency_ms": None, "input_length": 9, "reused_input_tokens": 0}
    path.write_text("".join(json.dumps({**each, "output_length": 316, "more": 1}) + "\n" for each in (row, lost)))

    served = read_report(path)

    assert (served.ttft_ms[0], served.e2e_ms[0], served.cached_tokens[0]) == (53.4, 1901.2, 512)
    assert np.isnan(served.e2e_ms[1])


def test_without_dynamo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(believable_module, "have_peers", lambda: False)

    with pytest.raises(BenchError, match=r"pip install 'kvplane\[bench\]'"):
        dynamos_replay(Sizes())


def _served(ttft_ms: list[float], cached_tokens: list[int] | None = None) -> Served:
    first_ms = np.array(ttft_ms)
    prompt, cached = np.array([1000, 1100]), np.array(cached_tokens or [0, 0])
    return Served(first_ms, first_ms + 1000, prompt, cached, np.array([3, 2]))
