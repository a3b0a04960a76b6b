"""What a mirror in a process of its own can be asked (`reader.py`), and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvplane.directory import HolderId, Place


@dataclass(frozen=True, slots=True)
class Begin:
    """Start to mirror; answered with the time, as `Reached`. It comes first."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Until each page is known up to its place; answered with `Reached`."""

    places: Mapping[HolderId, Place]
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reached:
    """`cpu_s`: of the process since the request. `at_s`: by the clock that all processes of a host share."""

    cpu_s: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Freeze:
    """Read nothing until the next request, so that what is written meanwhile comes in full replies."""


@dataclass(frozen=True, slots=True)
class TellUsage:
    """Answered with the CPU seconds of the process and the time, as `Reached`."""


@dataclass(frozen=True, slots=True)
class TellDigests:
    """Answered with each holder's digest, of what was applied, recounted for as many as `recounts`."""

    recounts: int = 0


@dataclass(frozen=True, slots=True)
class TellArrivals:
    """Answered with when which names were applied."""


@dataclass(frozen=True, slots=True)
class TellWatched:
    """Answered with `Watched` since the last time."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Look-ups of the watched prompts: all, those that found less than was there at first, those that failed."""

    asked: int = 0
    lost_hits: int = 0
    failed: int = 0


Request = Begin | Reach | Freeze | TellUsage | TellDigests | TellArrivals | TellWatched
Watch = tuple[bytes, Mapping[HolderId, int]]  # a prompt's words, and who has how many blocks of it
