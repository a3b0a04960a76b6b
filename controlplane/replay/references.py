"""What no router can beat: one cache for the whole fleet, as large as the fleet's, or without any limit."""

from collections import OrderedDict
from collections.abc import Container, Iterator, Sequence
from itertools import chain, islice, takewhile

import numpy as np

from .run import Ints
from .trace import Trace, TraceRequest


def infinite_hit_rate(trace: Trace) -> float:
    """The share of prompt tokens that a cache without limit would give back; tenants share nothing."""
    return hit_rate(trace, infinite_extents(trace))


def pooled_hit_rate(trace: Trace, blocks: int) -> float:
    """The share of prompt tokens that one cache of so many blocks would give back; tenants share nothing."""
    return hit_rate(trace, pooled_extents(trace, blocks))


def hit_rate(trace: Trace, extents: Ints) -> float:
    """Of all prompt tokens, those reused when so many leading blocks of each prompt are held."""
    return float(reused_tokens(trace, extents).sum() / sum(each.prompt_tokens for each in trace.requests))


def reused_tokens(trace: Trace, extents: Ints) -> Ints:
    """Tokens of each request that need no computing, in whole blocks: the last token of a prompt always does."""
    prompts = np.array([each.prompt_tokens for each in trace.requests], np.int64)
    return np.minimum(extents, (prompts - 1) // trace.block_tokens) * trace.block_tokens


def infinite_extents(trace: Trace, *, apart: bool = True) -> Ints:
    """Leading blocks of each prompt that an earlier one had, shape (n,); `apart`: an earlier one of its tenant."""
    known: set[int] = set()
    extents = np.zeros(len(trace.requests), np.int64)
    for at, runs in enumerate(_runs(trace.requests, apart)):
        extents[at] = extent = _leading(runs, known)
        known.update(islice(chain.from_iterable(runs), extent, None))
    return extents


def pooled_extents(trace: Trace, blocks: int, *, apart: bool = True) -> Ints:
    """Leading blocks of each prompt that one LRU cache of so many blocks holds when it comes, shape (n,).

    A prompt is looked up, then stored whole and touched whole, its root last: leaves are evicted first.
    """
    cache: OrderedDict[int, None] = OrderedDict()
    extents = np.zeros(len(trace.requests), np.int64)
    for at, runs in enumerate(_runs(trace.requests, apart)):
        extents[at] = _leading(runs, cache)
        for block in chain.from_iterable(reversed(run) for run in reversed(runs)):
            cache[block] = None
            cache.move_to_end(block)
        for _ in range(len(cache) - blocks):
            cache.popitem(last=False)
    return extents


def _runs(requests: Sequence[TraceRequest], apart: bool) -> Iterator[Sequence[range]]:
    """The ids of each prompt's blocks, moved so that no two tenants have one in common, if they are kept apart."""
    above = max((first + count for each in requests for first, count in each.ranges), default=0)
    number: dict[str, int] = {}
    for request in requests:
        moved = above * number.setdefault(request.tenant, len(number)) if apart else 0
        yield [range(moved + first, moved + first + count) for first, count in request.ranges]


def _leading(runs: Sequence[range], held: Container[int]) -> int:
    """How many ids are held before the first that is not."""
    extent = 0
    for run in runs:
        if not all(map(held.__contains__, run)):
            return extent + sum(1 for _ in takewhile(held.__contains__, run))
        extent += len(run)
    return extent
