"""The demo from first to last: the same work under three routings, then a table, five decisions and a plot."""

import shutil
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from ..config import Settings
from ..decision_row import DecisionRow
from ..interrupt import Interrupt, one_interrupt
from ..local import Serving
from .drive import Answer, Reply, Target
from .lessons import in_words, lessons
from .plot import write_plot
from .progress import progress
from .report import BASELINE, OURS, RAY, Figures, figures, show_report, write_report
from .workload import Workload

_SETTLE_S = 5.0


class Host(Protocol):
    """A machine that can serve one application after another."""

    def serving(self, settings: Settings) -> AbstractContextManager[Serving]: ...


class Drive(Protocol):
    """Runs all users against a served model; `told` hears each reply."""

    def __call__(
        self, workload: Workload, target: Target, told: Callable[[Reply], None]
    ) -> Coroutine[None, None, Sequence[Reply]]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story needs of the world."""

    workload: Workload
    prepare: Callable[[Settings], object]  # makes the model's files; takes seconds the first time
    host: Callable[[Settings], AbstractContextManager[Host]]
    drive: Drive
    decisions: Callable[[Path, int], Sequence[DecisionRow]]  # the last so many of a store


@dataclass(frozen=True, slots=True)
class _Routing:
    name: str  # in the report
    policy: str  # in the settings
    means: str


@dataclass(frozen=True, slots=True)
class _Run:
    replies: Sequence[Reply]
    rows: Sequence[DecisionRow]


_ROUTINGS = (
    _Routing(BASELINE, "round_robin", "each request goes to the next replica in turn"),
    _Routing(RAY, "ray", "Ray Serve's own: of two replicas drawn at random, the one with fewer requests"),
    _Routing(OURS, "adaptive", "kvplane's default: where the first token should come soonest, caches considered"),
)
_OUTPUTS = ("report.json", "ttft.png", "decisions.txt")


def tell(stage: Stage, out: Path, console: Console) -> Mapping[str, Figures]:
    """Run everything, and leave the results in `out`. On a signal it stops all, says what is kept, and raises."""
    out.mkdir(parents=True, exist_ok=True)
    for name in _OUTPUTS:
        (out / name).unlink(missing_ok=True)
    with one_interrupt() as interrupt:
        try:
            runs = _runs(stage, out, console, interrupt)
            _conclude(runs, out, console)
        except KeyboardInterrupt:
            console.print(_kept(out), markup=False)
            raise
    return {name: figures(run.replies) for name, run in runs.items()}


def settings_of(policy: str, state: Path) -> Settings:
    """One routing's settings: three replicas of the default model, and a state folder to itself."""
    return Settings.load(None, routing=policy, state=state)


def _runs(stage: Stage, out: Path, console: Console, interrupt: Interrupt) -> Mapping[str, _Run]:
    settings = {each.name: settings_of(each.policy, out / "state" / each.name) for each in _ROUTINGS}
    console.print(_introduction(stage.workload, settings[OURS]), markup=False)
    stage.prepare(settings[OURS])
    console.print("Starting Ray.")
    runs: dict[str, _Run] = {}
    with stage.host(settings[OURS]) as host:
        interrupt.take()
        try:
            for number, each in enumerate(_ROUTINGS, 1):
                console.print(f"\n{number} of {len(_ROUTINGS)}: {each.name}, {each.means}.", markup=False)
                runs[each.name] = _run(stage, host, settings[each.name], console, interrupt)
        except KeyboardInterrupt:
            console.print("\nStopping replicas, shards and Ray.")
            raise
    return runs


def _run(stage: Stage, host: Host, settings: Settings, console: Console, interrupt: Interrupt) -> _Run:
    """Deploy anew, so that all caches are empty, and let everybody ask."""
    shutil.rmtree(settings.state, ignore_errors=True)
    settings.state.mkdir(parents=True)
    console.print(f"Starting {settings.replicas.count} replicas with empty caches.")
    with host.serving(settings) as serving:
        target = Target(serving.url, settings.name, serving.keys)
        with progress(console, "requests answered", stage.workload.requests) as advance:
            replies = interrupt.run(stage.drive(stage.workload, target, lambda _: advance()))
        answered = sum(isinstance(reply, Answer) for reply in replies)
        return _Run(replies, _settled(stage, settings.decisions_file, answered))


def _settled(stage: Stage, store: Path, answered: int) -> Sequence[DecisionRow]:
    """All decisions; outcomes ride in the replicas' next batches, so the last ones come a moment later."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        rows = stage.decisions(store, stage.workload.requests)
        if sum(row.finish is not None for row in rows) >= answered or time.monotonic() > deadline:
            return rows
        time.sleep(0.1)


def _conclude(runs: Mapping[str, _Run], out: Path, console: Console) -> None:
    replies = {name: run.replies for name, run in runs.items()}
    ours = runs[OURS]
    found = lessons(ours.rows, [reply for reply in ours.replies if isinstance(reply, Answer)])
    text = in_words(found)
    write_report(replies, out / "report.json")
    write_plot(replies, out / "ttft.png")
    (out / "decisions.txt").write_text(f"{text}\n")
    console.print()
    heading = f"{len(found)} decisions of kvplane's run that teach most:"
    console.print(f"{heading}\n\n{text}\n", markup=False, highlight=False, soft_wrap=True)
    show_report(replies, console)
    console.print(
        f"\nIn {out}: report.json (the table), ttft.png (the plot), decisions.txt (the above).\n"
        f"All decisions: kvplane decisions --last {len(ours.rows)} --state {out / 'state' / OURS}",
        markup=False,
    )


def _introduction(workload: Workload, settings: Settings) -> str:
    people, tenants = len(workload.users), " and ".join(workload.tenants)
    return (
        f"{people} people at two companies, {tenants}, ask {workload.requests} questions about files of Python's "
        "standard library. As chat clients do, each request carries the file and all that was said before. "
        f"{settings.replicas.count} replicas of {settings.name} answer on this machine's CPU. A replica that has "
        "computed the beginning of a prompt before can skip it, unless that was for the other company; routing decides "
        "how often it can.\n\nThe same work runs under three routings, each with empty caches. It takes about five "
        "minutes; Ctrl-C stops it.\n\nPreparing the model (a few seconds, the first time)."
    )


def _kept(out: Path) -> str:
    return (
        f"Stopped; nothing of the demo is running. Kept: the prepared model, and in {out / 'state'} the decisions made "
        "so far. There is no report, as the routings can only be compared when all have run."
    )
