"""A trace: who asked for how much, when, and which prompts begin alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[int, int], ...]

_NAMED = 5  # tenants a message lists


class BadTrace(Exception):
    """A trace that cannot be replayed: which, at what line where that is known, what was wanted and what came."""

    def __init__(self, source: str, line: int | None, why: str) -> None:
        super().__init__(source, line, why)
        self.source = source
        self.line = line
        self.why = why

    def __str__(self) -> str:
        return f"{self.source}: {self.why}" if self.line is None else f"{self.source}, line {self.line}: {self.why}"


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request. Blocks of two prompts are the same if their ids are: an id stands for the whole prefix up to it."""

    at_ms: float  # since the trace began
    prompt_tokens: int
    output_tokens: int
    ranges: Ranges  # (first id, count), a block of the prompt each; the last may be partial
    session: str = ""
    tenant: str = "default"

    @property
    def block_ids(self) -> NDArray[np.int64]:
        """The ids of the prompt's blocks, in order."""
        if not self.ranges:
            return np.zeros(0, np.int64)
        return np.concatenate([np.arange(first, first + count, dtype=np.int64) for first, count in self.ranges])


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests by rising time. `name` is what a table calls it."""

    name: str
    block_tokens: int
    requests: Sequence[TraceRequest]

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who asks, in the order of their names; a pass over all requests."""
        return tuple(sorted({request.tenant for request in self.requests}))


def folded(block_ids: Sequence[int] | NDArray[np.int64]) -> Ranges:
    """Ids as ranges, the fewest that give them in this order: what `TraceRequest.block_ids` unfolds."""
    ids = np.asarray(block_ids, np.int64)
    if not len(ids):
        return ()
    begins = np.concatenate([[0], np.flatnonzero(np.diff(ids) != 1) + 1])
    counts = np.diff(begins, append=len(ids))
    return tuple(zip(ids[begins].tolist(), counts.tolist(), strict=True))


def scaled(
    trace: Trace, *, speedup: float = 1.0, requests: int | None = None, tenant: str | None = None, start: int = 0
) -> Trace:
    """A part of a trace, its first request at 0: one tenant's, without the first `start`, of those `requests`.

    Times are divided by `speedup`. Raises `BadTrace` where there is not so much to take.
    """
    if not 0 < speedup < float("inf"):
        raise BadTrace(trace.name, None, f"wanted a speedup above 0, got {speedup}")
    if start < 0 or (requests is not None and requests < 1):
        raise BadTrace(trace.name, None, f"wanted start >= 0 and requests >= 1, got {start} and {requests}")
    theirs = trace.requests if tenant is None else _of(trace, tenant)
    until = len(theirs) if requests is None else start + requests
    if not start < until <= len(theirs):
        wanted = "any" if requests is None else requests
        raise BadTrace(
            trace.name, None, f"wanted {wanted} requests from request {start} on, there are {len(theirs)} in all"
        )
    part = theirs[start:until]
    began_ms = part[0].at_ms
    return replace(trace, requests=[replace(each, at_ms=(each.at_ms - began_ms) / speedup) for each in part])


def _of(trace: Trace, tenant: str) -> Sequence[TraceRequest]:
    theirs = [each for each in trace.requests if each.tenant == tenant]
    if not theirs:
        there_are = sorted({each.tenant for each in trace.requests})
        more = f" and {len(there_are) - _NAMED} more" if len(there_are) > _NAMED else ""
        raise BadTrace(trace.name, None, f"no tenant {tenant!r}; there are {', '.join(there_are[:_NAMED])}{more}")
    return theirs
