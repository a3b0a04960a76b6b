"""Many replays, a few at a time in processes of their own; those kept in a folder need not be run again."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.replayer import ORACLE, replay
from kvplane.controlplane.replay.run import Run
from kvplane.controlplane.replay.summary import summarise
from kvplane.controlplane.replay.trace import BadTrace
from kvplane.policies import PolicySettings

from .errors import BenchError
from .workloads import Part

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Replay:
    """What to run, and what progress calls it; the same but for the label gives the same run."""

    label: str
    part: Part
    policy: PolicySettings | None  # None: the oracle
    fleet: FleetSettings
    seed: int = 1

    @property
    def name(self) -> str:
        return self.policy.name if self.policy else ORACLE

    @property
    def key(self) -> str:
        """A file name that only this replay has. The policy's code is no part of it."""
        part, knobs = self.part, getattr(self.policy, self.name, None)
        taken = (part.path.name, part.path.stat().st_size, part.first, part.requests, part.speedup)
        what = (taken, self.name, knobs, self.fleet, self.seed)
        return f"{part.name}-{self.name}-{sha256(repr(what).encode()).hexdigest()[:20]}.npz"


class Replays:
    """`keep` is a folder for finished replays. Those of the policies in `again` are run even if they are there."""

    def __init__(self, jobs: int, keep: Path | None = None, again: Collection[str] = ()) -> None:
        self._jobs = jobs
        self._keep = keep
        self._again = again

    def run(self, replays: Sequence[Replay]) -> list[Run]:
        """Run all, keeping each as it is done. Raises `BenchError` for one that cannot be run."""
        runs = {place: run for place, replay in enumerate(replays) if (run := self._kept(replay)) is not None}
        missing = [place for place in range(len(replays)) if place not in runs]
        began = time.monotonic()
        for done, (at, run) in enumerate(each(run_alone, [replays[place] for place in missing], self._jobs), 1):
            place = missing[at]
            runs[place] = run
            if self._keep is not None:
                save(run, self._keep / replays[place].key)
            say(f"{_told(replays[place], run)}; {done} of {len(missing)}, {time.monotonic() - began:.0f} s")
        return [runs[place] for place in range(len(replays))]

    def _kept(self, replay: Replay) -> Run | None:
        if self._keep is None or replay.name in self._again:
            return None
        path = self._keep / replay.key
        return load(path) if path.exists() else None


def run_alone(replay_: Replay) -> Run:
    """Run one replay. Raises `BenchError`."""
    try:
        return replay(replay_.part.trace, replay_.policy, replay_.fleet, replay_.seed)
    except BadTrace as exc:
        raise BenchError(f"{replay_.label}: {exc}") from exc


def each(work: Callable[[T], U], tasks: Sequence[T], jobs: int) -> Iterator[tuple[int, U]]:
    """Give the place of each task with what a module's function made of it, as they are done.

    Raises `BenchError` for a process that died.
    """
    if jobs == 1 or len(tasks) < 2:
        for place, task in enumerate(tasks):
            yield place, work(task)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn")) as pool:
        places = {pool.submit(work, task): place for place, task in enumerate(tasks)}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool as exc:
            raise BenchError("a process that replayed a trace died; with fewer --jobs it has more memory") from exc
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def save(run: Run, path: Path) -> None:
    """Write a run so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    arrays = {field.name: np.asarray(getattr(run, field.name)) for field in fields(Run)}
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]  # no field is called as its one flag
    part.rename(path)


def load(path: Path) -> Run:
    """Read what `save` wrote. Raises `BenchError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            found: dict[str, Any] = {field.name: kept[field.name] for field in fields(Run)}  # Any: a field's own type
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise BenchError(f"wanted a kept replay in {path}; {exc}: delete it") from exc
    return Run(**{name: _plain(value) for name, value in found.items()})


def say(what: str) -> None:
    """Tell whoever waits how far things are."""
    print(what, file=sys.stderr, flush=True)


def _told(replay: Replay, run: Run) -> str:
    summary = summarise(run)
    return f"{replay.label}: TTFT {summary.ttft_mean_ms:.0f} ms, {summary.hit_rate:.1%} cached"


def _plain(value: np.ndarray[Any, Any]) -> Any:  # Any: what an array without dimensions, or of names, stands for
    if value.dtype.kind == "U":
        return str(value) if value.ndim == 0 else tuple(value.tolist())
    return int(value) if value.ndim == 0 else value
