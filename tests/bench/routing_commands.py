"""`kvplane bench routing`, `learning`, `routers` and `off-policy`: how good decisions are, on simulated fleets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from kvplane.policies import PolicyName, PolicySettings

from .errors import BenchError
from .learning import Pupil, control, learned_rates, slowed, wrong_prior
from .learning_rows import learning_table
from .off_policy_coverage import PAIRS, off_policy_coverage
from .off_policy_rows import coverage_table
from .printing import AsJson, errors_told, show
from .replays import Replays, say
from .routing import WORKLOADS, Contest, routing
from .routing_rows import routing_table
from .several_routers import Routers, several_routers
from .several_routers_rows import routers_table
from .workloads import Part, parts

Traces = Annotated[Path, typer.Option(exists=True, file_okay=False, help="The folder that traces are read from.")]
Requests = Annotated[int | None, typer.Option(min=30, help="Of each trace no more than this, from its first on.")]
Ours = Annotated[str, typer.Option(help="The policy that is measured, at its defaults.")]
Timing = Annotated[str, typer.Option(help="The engine that is simulated.")]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Processes that replay at the same time.")]
Keep = Annotated[Path | None, typer.Option(help="A folder for replays: one that is there is not run again.")]
Again = Annotated[list[str] | None, typer.Option(help="Replay this policy even so, since its code is another.")]

_OURS = PolicySettings().name
_TIMING = "dynamo"


def routing_command(
    traces: Traces,
    workload: Annotated[list[str] | None, typer.Option(help="name or name:requests; can be repeated.")] = None,
    requests: Requests = None,
    speedups: Annotated[str, typer.Option(help="Where overloads are looked for.")] = "2,3,4,5,6,8,10,12,16",
    ours: Ours = _OURS,
    timing: Timing = _TIMING,
    jobs: Jobs = 1,
    keep: Keep = None,
    again: Again = None,
    as_json: AsJson = False,
) -> None:
    """Ours, untuned and cold, against every peer's policy at the best of its settings, and the oracle."""
    with errors_told():
        contest = Contest(_policy(ours), timing, _speedups(speedups, above=1.0))
        found = routing(parts(traces, workload or WORKLOADS, requests), contest, Replays(jobs, keep, again or ()))
        show(list(found), routing_table, as_json)


def learning_command(
    traces: Traces,
    workload: Annotated[str, typer.Option(help="A trace to learn on.")] = "mooncake_conversation_head",
    speedup: Annotated[float, typer.Option(min=0.01, help="How fast it comes.")] = 4.0,
    control_workload: Annotated[str, typer.Option("--control", help="Routing barely matters here.")] = "servegen_mid",
    requests: Requests = None,
    ours: Ours = _OURS,
    timing: Timing = _TIMING,
    jobs: Jobs = 1,
    keep: Keep = None,
    again: Again = None,
    as_json: AsJson = False,
) -> None:
    """Ours from a wrong prior, and on a fleet that slows in mid-run, beside one that knew; and a negative control."""
    with errors_told():
        pupil, replays = Pupil(_policy(ours), timing), Replays(jobs, keep, again or ())
        learnt, plain = parts(traces, [workload, control_workload], requests)
        learnt = _at(learnt, speedup)
        rates = learned_rates(learnt, pupil)
        say(f"{learnt.name} {learnt.speedup:g}x: {pupil.ours} learns {rates}")
        rows = [*wrong_prior(learnt, pupil, rates, replays), slowed(learnt, pupil, replays)]
        show([*rows, control(plain, pupil, replays)], learning_table, as_json)


def routers_command(
    traces: Traces,
    workload: Annotated[list[str] | None, typer.Option(help="name or name:requests; can be repeated.")] = None,
    requests: Requests = None,
    speedups: Annotated[str, typer.Option(help="How fast they come.")] = "1,4",
    routers: Annotated[int, typer.Option(min=1, max=256, help="How many.")] = 8,
    lag_ms: Annotated[float, typer.Option(min=0, help="From a replica's word to a router's ear.")] = 100.0,
    ours: Ours = _OURS,
    timing: Timing = _TIMING,
    jobs: Jobs = 1,
    keep: Keep = None,
    again: Again = None,
    as_json: AsJson = False,
) -> None:
    """What several routers that hear late lose against one that hears at once."""
    with errors_told():
        whole = parts(traces, workload or WORKLOADS, requests)
        asked = [_at(part, speedup) for part in whole for speedup in _speedups(speedups)]
        settings = Routers(routers, lag_ms, _policy(ours), timing)
        show(list(several_routers(asked, settings, Replays(jobs, keep, again or ()))), routers_table, as_json)


def off_policy_command(
    traces: Traces,
    workload: Annotated[str, typer.Option(help="The trace that is logged.")] = "mooncake_conversation_head",
    requests: Requests = 2000,
    speedup: Annotated[float, typer.Option(min=0.01, help="How fast it comes.")] = 2.0,
    pair: Annotated[list[str] | None, typer.Option(help="logged:estimated, two policies; can be repeated.")] = None,
    floor: Annotated[float, typer.Option(min=0.001, max=1, help="With what chance any replica is taken.")] = 0.01,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Logs of each pair.")] = 50,
    timing: Timing = _TIMING,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """How often the truth about a policy lies in the interval that the log of another one gives."""
    with errors_told():
        part = _at(parts(traces, [workload], requests)[0], speedup)
        pairs = PAIRS if pair is None else [_pair(each) for each in pair]
        show(list(off_policy_coverage(part, pairs, floor, seeds, timing, jobs)), coverage_table, as_json)


def _policy(name: str) -> PolicyName:
    known: Sequence[PolicyName] = get_args(PolicyName)
    for each in known:
        if each == name:
            return each
    raise BenchError(f"wanted a policy of {', '.join(known)}; got {name!r}")


def _pair(asked: str) -> tuple[PolicyName, PolicyName]:
    logging, colon, target = asked.partition(":")
    if not colon:
        raise BenchError(f"wanted two policies as logged:estimated; got {asked!r}")
    return _policy(logging), _policy(target)


def _speedups(asked: str, above: float = 0.0) -> Sequence[float]:
    try:
        found = sorted({float(each) for each in asked.split(",")})
    except ValueError:
        found = [above]
    if not above < found[0] <= found[-1] < float("inf"):
        raise BenchError(f"wanted speedups above {above:g}, as in 2,3,4; got {asked!r}")
    return found


def _at(part: Part, speedup: float) -> Part:
    return Part(part.path, part.first, part.requests, speedup)
