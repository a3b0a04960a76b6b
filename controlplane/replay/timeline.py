"""Several runs of one trace on one line of time, also where each began at another of its requests."""

from collections.abc import Sequence

import numpy as np

from .run import Ints

_ALIKE = 16  # so many prompts of the same lengths in a row are the same requests


def places(prompts: Sequence[Ints]) -> Sequence[Ints]:
    """Where each run's requests stand, told by the lengths of their prompts: the same request, the same place.

    A run that shares no request with the first stands behind all others.
    """
    firsts: list[int] = []
    for each in prompts:
        shift = _shift(prompts[0], each)
        if shift is None:
            shift = max(first + len(its) for first, its in zip(firsts, prompts, strict=False))
        firsts.append(shift)
    return [np.arange(len(each)) + first - min(firsts) for first, each in zip(firsts, prompts, strict=True)]


def _shift(line: Ints, other: Ints) -> int | None:
    """How much later in `line` the other begins; negative where it begins before."""
    later, earlier = _begins(line, other), _begins(other, line)
    return later if later is not None else None if earlier is None else -earlier


def _begins(line: Ints, other: Ints) -> int | None:
    head = min(_ALIKE, len(other), len(line))
    if not head:
        return 0
    heads = np.lib.stride_tricks.sliding_window_view(line, head)
    for at in np.flatnonzero((heads == other[:head]).all(axis=1)):
        shared = min(len(line) - int(at), len(other))
        if np.array_equal(line[at : at + shared], other[:shared]):
            return int(at)
    return None
