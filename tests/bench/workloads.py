"""What replays are measured on: traces of a folder, how much of each, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kvplane.controlplane.replay.fleet import FleetSettings
from kvplane.controlplane.replay.read_trace import read_trace
from kvplane.controlplane.replay.timing import BadTiming, timing_named
from kvplane.controlplane.replay.trace import BadTrace, Trace, scaled

from .errors import BenchError

CACHE_TOKENS = 1 << 20  # of KV cache on each replica
REPLICAS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a trace file, its times divided by `speedup`."""

    path: Path
    first: int
    requests: int
    speedup: float = 1.0

    @property
    def name(self) -> str:
        """What tables call the trace."""
        return self.path.name.split(".")[0]

    @property
    def trace(self) -> Trace:
        """Its requests, the first at 0. Raises `BenchError` where the file does not have them."""
        try:
            return scaled(whole_trace(self.path), speedup=self.speedup, requests=self.requests, start=self.first)
        except BadTrace as exc:
            raise BenchError(str(exc)) from exc


def parts(folder: Path, asked: Sequence[str], most: int | None = None) -> list[Part]:
    """The whole of each named trace of a folder; `name:6000` asks for its first 6,000, `most` for no more of any.

    Raises `BenchError` for a trace that is not there, or is shorter.
    """
    return [_part(folder, each, most) for each in asked]


def fleet_for(part: Part, timing: str) -> FleetSettings:
    """Eight replicas of the named timing, each with a cache of 2**20 tokens. Raises `BenchError`."""
    try:
        return FleetSettings(timing_named(timing), REPLICAS, CACHE_TOKENS // whole_trace(part.path).block_tokens)
    except BadTiming as exc:
        raise BenchError(str(exc)) from exc


def _part(folder: Path, asked: str, most: int | None) -> Part:
    name, _, count = asked.partition(":")
    if count and not (count.isdecimal() and int(count)):
        raise BenchError(f"wanted a trace's name, or name:requests; got {asked!r}")
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        there_are = sorted({path.name.split(".")[0] for path in folder.glob("*.jsonl*")})
        raise BenchError(f"wanted a trace {name!r} in {folder}; there are {', '.join(there_are) or 'none'}")
    whole = len(whole_trace(found[0]).requests)
    if count and int(count) > whole:
        raise BenchError(f"wanted {count} requests of {found[0]}; it has {whole}")
    return Part(found[0], 0, min(int(count) if count else whole, most or whole))


@lru_cache(maxsize=4)
def whole_trace(path: Path) -> Trace:
    """Read a trace, once in each process. Raises `BenchError`."""
    try:
        return read_trace(path)
    except BadTrace as exc:
        raise BenchError(str(exc)) from exc
