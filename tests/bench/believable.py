"""The believable benchmark: Dynamo's own replay of a trace beside ours, at its default timing."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.replayer import replay
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.timing import timing_named
from kvplane.controlplane.replay.trace import Trace
from kvplane.policies import PolicySettings

from .believable_rows import BelievableRow, Served, believable_rows
from .errors import BenchError
from .peers import have_peers

Ours = Callable[[Trace, str], Run]
Dynamos = Callable[[Trace, str], Served]


@dataclass(frozen=True, slots=True)
class Pair:
    """A policy of ours, and the router mode of Dynamo's that it should be like."""

    policy: str
    router_mode: str
    runs: int  # of Dynamo's, more where chance has a part


PAIRS = (Pair("round_robin", "round_robin", 1), Pair("dynamo", "kv_router", 3))


@dataclass(frozen=True, slots=True)
class Sizes:
    """A fleet that both replays have."""

    replicas: int = 8
    blocks: int = 2048


def believable(trace: Trace, pairs: Sequence[Pair], ours: Ours, dynamos: Dynamos) -> list[BelievableRow]:
    """Replay a trace by both, as one tenant's: Dynamo knows no others.

    Raises `BenchError` where one of them did not serve all of it.
    """
    trace = replace(trace, requests=[replace(request, tenant="default") for request in trace.requests])
    rows = []
    for pair in pairs:
        run = ours(trace, pair.policy)
        served = Served(run.ttft_ms, run.e2e_ms, run.prompt_tokens, run.cached_tokens, run.output_tokens)
        theirs = [dynamos(trace, pair.router_mode) for _ in range(pair.runs)]
        for who, each in (("kvplane", served), *(("Dynamo", each) for each in theirs)):
            answered = int(np.count_nonzero(~np.isnan(each.e2e_ms)))
            if answered != len(trace.requests):
                raise BenchError(f"{who} ({pair.policy}) answered {answered} of {len(trace.requests)} requests")
        rows += believable_rows(pair.policy, pair.router_mode, served, theirs)
    return rows


def our_replay(sizes: Sizes) -> Ours:
    """Give the replay by the real decision, at Dynamo's timing."""

    def run(trace: Trace, policy: str) -> Run:
        fleet = FleetSettings(timing_named("dynamo"), replicas=sizes.replicas, blocks=sizes.blocks)
        return replay(trace, PolicySettings.model_validate({"name": policy}), fleet)

    return run


def dynamos_replay(sizes: Sizes) -> Dynamos:
    """Give Dynamo's replay with the engine it mocks by default. Raises `BenchError` where Dynamo is not installed."""
    if not have_peers():
        raise BenchError("Dynamo's replay is in an optional package; to have it: pip install 'kvplane[bench]'")
    os.environ.setdefault("DYN_LOG", "error")  # read at the first import
    # Imported here because it is optional, and behind that setting.
    from dynamo._core import run_mocker_trace_replay

    def run(trace: Trace, router_mode: str) -> Served:
        with TemporaryDirectory() as folder:
            source, report = Path(folder, "trace.jsonl"), Path(folder, "report.jsonl")
            write_mooncake(trace, source)
            engine = {"block_size": trace.block_tokens, "num_gpu_blocks": sizes.blocks}
            try:
                run_mocker_trace_replay(
                    [str(source)],
                    extra_engine_args=json.dumps({"engine": engine}),
                    num_workers=sizes.replicas,
                    router_mode=router_mode,
                    trace_block_size=trace.block_tokens,
                    capture_per_request=True,
                    report_jsonl_path=str(report),
                )
            except Exception as exc:  # whatever it raises
                raise BenchError(f"Dynamo's replay by {router_mode} failed: {exc}") from exc
            return read_report(report)

    return run


def write_mooncake(trace: Trace, path: Path) -> None:
    """Write a trace in Mooncake's own format."""
    with path.open("w", encoding="utf-8") as file:
        for request in trace.requests:
            row = {
                "timestamp": request.at_ms,
                "input_length": request.prompt_tokens,
                "output_length": max(1, request.output_tokens),
                "hash_ids": request.block_ids.tolist(),
            }
            file.write(json.dumps(row) + "\n")


def read_report(path: Path) -> Served:
    """Read what Dynamo says of each request."""
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]

    def column(name: str, kind: type[Any]) -> Any:  # Any: as numpy has it
        return np.array([np.nan if row[name] is None else row[name] for row in rows], kind)

    return Served(
        ttft_ms=column("ttft_ms", np.float64),
        e2e_ms=column("e2e_latency_ms", np.float64),
        prompt_tokens=column("input_length", np.int64),
        cached_tokens=column("reused_input_tokens", np.int64),
        output_tokens=column("output_length", np.int64),
    )
