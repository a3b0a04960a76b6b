"""`kvplane replay` and `kvplane tune` on small files: tables, JSON, pictures, and errors of one line."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kvplane.controlplane import cli
from kvplane.controlplane.replay.trace import Trace
from kvplane.tests.controlplane.replay.made_trace import conversations

RUN = CliRunner()
SMALL = ["--replicas", "2", "--blocks", "300"]
TIGHT = ["--replicas", "1", "--blocks", "80"]


def written(trace: Trace, path: Path) -> Path:
    rows = [
        {
            "timestamp_ms": each.at_ms,
            "input_length": each.prompt_tokens,
            "output_length": each.output_tokens,
            "block_size": trace.block_tokens,
            "hash_ranges": each.ranges,
            "tenant": each.tenant,
        }
        for each in trace.requests
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def trace(tmp_path: Path) -> str:
    return str(written(conversations(40, apart_ms=20.0), tmp_path / "made.jsonl"))


def told(*arguments: str) -> str:
    result = RUN.invoke(cli.app, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def replayed(*arguments: str) -> Any:  # Any: JSON
    return json.loads(told("replay", *SMALL, *arguments, "--json"))


def test_policies_are_compared_in_a_table_and_in_words(trace: str) -> None:
    output = told("replay", trace, "--policy", "estimated_ttft,dynamo:prefill_load_scale=16,round_robin", *SMALL)

    assert "made: 40 requests" in output
    for row in ("estimated_ttft", "dynamo:prefill_load_scale=16", "round_robin", "oracle", "pooled LRU"):
        assert any(line.strip().startswith(row) for line in output.splitlines())
    for other in ("dynamo:prefill_load_scale=16", "round_robin", "oracle"):
        assert sum("estimated_ttft" in line and other in line for line in output.splitlines()) == 3
    assert "no cache would give back more than" in output


def test_json_has_policies_by_the_words_they_were_typed_with_and_references(trace: str) -> None:
    found = replayed(trace, "--policy", "dynamo:prefill_load_scale=16,random")

    assert list(found["policies"]) == ["dynamo:prefill_load_scale=16", "random"]
    wanted = {"hit_rate", "ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_mean_ms", "e2e_mean_ms"}
    assert wanted | {"jain"} <= set(found["policies"]["random"])
    assert list(found["references"]) == ["infinite", "pooled", "oracle"]
    assert found["references"]["infinite"]["hit_rate"] >= found["references"]["pooled"]["hit_rate"]


def test_the_default_policies_are_compared_when_none_is_named(trace: str) -> None:
    assert {"estimated_ttft", "dynamo", "lmetric", "least_loaded", "round_robin"} <= set(replayed(trace)["policies"])


def test_the_same_seed_gives_the_same_figures_and_another_other_ones(trace: str) -> None:
    one, again, other = (replayed(trace, "--policy", "random", "--seed", seed) for seed in ("3", "3", "4"))

    assert one == again
    assert one["policies"] != other["policies"]


def test_options_reach_the_trace(trace: str) -> None:
    def size(*arguments: str) -> int:
        found = replayed(trace, "--policy", "round_robin", "--no-references", *arguments)
        return int(found["trace"]["requests"])

    assert size() == 40
    assert size("--requests", "12") == 12
    assert size("--start", "30") == 10
    assert 0 < size("--tenant", "acme") < 40
    facts = replayed(trace, "--policy", "round_robin", "--speedup", "2")["trace"]
    assert facts["span_ms"] == pytest.approx(conversations(40, apart_ms=20.0).requests[-1].at_ms / 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timing", "h100_8b"],
        ["--max-sequences", "2"],
        ["--token-budget", "64"],
        ["--routers", "4"],
        ["--incident", "0.1:slows:0:5"],
        ["--incident", "0.1:leaves:0", "--incident", "0.2:joins:2"],
        ["--replicas", "1"],
    ],
)
def test_options_reach_the_fleet(trace: str, arguments: list[str]) -> None:
    def policies(*arguments: str) -> object:
        return replayed(trace, "--policy", "estimated_ttft", "--no-references", *arguments)["policies"]

    assert policies(*arguments) != policies()


def test_late_routers_find_less(trace: str) -> None:
    def hit_rate(*arguments: str) -> float:
        found = replayed(trace, "--policy", "longest_prefix", "--routers", "4", "--no-references", *arguments)
        return float(found["policies"]["longest_prefix"]["hit_rate"])

    assert hit_rate("--lag-ms", "300") < hit_rate()


@pytest.mark.parametrize("tier", ["--cpu-blocks", "--disk-blocks"])
def test_tiers_below_give_back_what_a_small_cache_evicts(trace: str, tier: str) -> None:
    bare, tiers = (
        replayed(trace, "--policy", "round_robin", *TIGHT, *more, "--no-references") for more in ([], [tier, "400"])
    )

    assert tiers["policies"]["round_robin"]["hit_rate"] > bare["policies"]["round_robin"]["hit_rate"]


def test_a_file_of_measured_steps_is_a_timing(trace: str, tmp_path: Path) -> None:
    steps = tmp_path / "steps.csv"
    prefills = [f"prefill,{5 + 0.1 * tokens},{tokens},1,0" for tokens in (100, 400, 1000, 2000)]
    decodes = [f"decode,{6 + size},0,{size},{size * 100}" for size in (1, 4, 16)]
    steps.write_text("\n".join(["kind,ms,new_tokens,batch,context_tokens", *prefills, *decodes]))
    found = replayed(trace, "--timing", str(steps), "--policy", "round_robin")["policies"]["round_robin"]

    assert found["ttft_mean_ms"] > 5
    assert found != replayed(trace, "--policy", "round_robin")["policies"]["round_robin"]


def test_the_service_level_is_as_it_was_said(trace: str) -> None:
    strict = replayed(trace, "--policy", "round_robin", "--slo-ttft-ms", "0", "--slo-tpot-ms", "0")

    assert strict["policies"]["round_robin"]["slo_attainment"] == 0


def test_several_runs_begin_later_and_have_a_spread(trace: str) -> None:
    found = replayed(trace, "--policy", "estimated_ttft,round_robin", "--runs", "2", "--no-references")

    assert found["policies"]["round_robin"]["runs"] == 2
    assert "spread" in found["policies"]["round_robin"]


def test_runs_are_drawn(trace: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    png, page = tmp_path / "a.png", tmp_path / "a.html"
    told("replay", trace, *SMALL, "--policy", "round_robin", "--plot", str(png), "--plot", str(page))

    assert png.read_bytes().startswith(b"\x89PNG")
    assert "round_robin" in page.read_text()
    assert "oracle" in page.read_text()


def test_of_few_requests_no_verdict_is_given(trace: str) -> None:
    output = told("replay", trace, *SMALL, "--requests", "9", "--policy", "random,round_robin")

    assert "no verdicts" in output
    assert "95 %" not in output


def test_mooncakes_files_have_blocks_of_512_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    rows = [{"timestamp": at, "input_length": 1000, "output_length": 2, "hash_ids": [1, at + 2]} for at in range(12)]
    path.write_text("\n".join(map(json.dumps, rows)))
    told_so = replayed(str(path), "--block-tokens", "500", "--policy", "round_robin")

    assert replayed(str(path), "--policy", "round_robin")["trace"]["block_tokens"] == 512
    assert told_so["trace"]["block_tokens"] == 500


def test_a_cache_is_a_million_tokens_unless_told(trace: str) -> None:
    roomy = json.loads(told("replay", trace, "--policy", "round_robin", "--json", "--replicas", "1"))
    small = replayed(trace, "--policy", "round_robin", *TIGHT)

    assert roomy["policies"]["round_robin"]["evicted_blocks"] == 0
    assert small["policies"]["round_robin"]["evicted_blocks"] > 0


def test_tuning_says_what_was_tried_and_how_sure_it_is(trace: str) -> None:
    output = told("tune", trace, *SMALL, "--jobs", "1", "--policy", "dynamo")
    found = json.loads(told("tune", trace, *SMALL, "--jobs", "1", "--policy", "dynamo", "--json"))

    assert "made: the first 13 requests" in output
    assert "dynamo (default)" in output
    assert "on the rest of the trace" in output or "the default is the best" in output
    assert found["metric"] == "ttft_mean_ms"
    assert found["best"]["routing"]["name"] == "dynamo"
    assert found["judged"]["low"] <= found["judged"]["ratio"] <= found["judged"]["high"]


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["replay", "{trace}", "--policy", "dinamo"], "there is no policy 'dinamo' (is it dynamo?); policies are"),
        (["replay", "{trace}", "--policy", "dynamo:scale=2"], "dynamo has no knob 'scale'; its knobs are"),
        (["tune", "{trace}", "--policy", "best"], "there is no policy 'best'"),
        (["replay", "nowhere.jsonl"], "nowhere.jsonl: wanted a file that can be read"),
        (["replay", "{broken}"], "broken.jsonl, line 2: "),
        (["replay", "{trace}", "--block-tokens", "64"], "line 1: wanted blocks of 64 tokens, got 16"),
        (["replay", "{trace}", "--requests", "41"], "wanted 41 requests from request 0 on, there are 40"),
        (["replay", "{trace}", "--tenant", "initech"], "no tenant 'initech'; there are acme, globex"),
        (["replay", "{trace}", "--speedup", "0"], "wanted a speedup above 0, got 0.0"),
        (["replay", "{trace}", "--blocks", "20"], "wanted requests that fit in 20 blocks of 16 tokens"),
        (["replay", "{trace}", "--timing", "tpu"], "wanted a timing of dynamo, h100_8b, h100_70b, or a file"),
        (["replay", "{trace}", "--timing", "{broken}"], "broken.jsonl"),
        (["replay", "{trace}", "--incident", "1:melts:0"], "wanted SECONDS:leaves|joins:REPLICA or"),
        (["replay", "{trace}", "--plot", "a.pdf"], "wanted a file that ends in .png or .html; got a.pdf"),
        (["replay", "{trace}", "--plot", "nowhere/a.png"], "wanted a folder that is there; got nowhere/a.png"),
        (["tune", "{terse}", "--policy", "random", "--metric", "tpot_mean_ms"], "at least 10 requests with a tpot"),
        (["tune", "{trace}", "--requests", "29"], "at least 30 requests to tune on, got 29"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_two(
    trace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    wanted: str,
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(Path(trace).read_text().splitlines()[0] + '\n{"timestamp_ms": 5, "input_le')
    whole = conversations(40, apart_ms=20.0)
    one_token = replace(whole, requests=[replace(each, output_tokens=1) for each in whole.requests])
    terse = written(one_token, tmp_path / "terse.jsonl")
    filled = [each.format(trace=trace, broken=broken, terse=terse) for each in arguments]
    monkeypatch.setattr(sys, "argv", ["kvplane", *filled])

    with pytest.raises(SystemExit) as caught:
        cli.main()

    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert wanted in error
    assert error.count("\n") == 1


def test_a_bar_for_each_policy_is_drawn_on_a_terminal_and_beside_json_none(
    trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["replay", trace, *SMALL, "--policy", "round_robin"]
    plain = RUN.invoke(cli.app, command)
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    drawn, as_json = RUN.invoke(cli.app, command), RUN.invoke(cli.app, [*command, "--json"])

    assert plain.stderr == as_json.stderr == ""
    for label in ("reading", "round_robin", "oracle"):
        assert label in drawn.stderr
