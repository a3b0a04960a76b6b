"""Steps in a row that only decode: their times at once, and of each sequence only the steps that move blocks."""

import heapq
from bisect import bisect_left, bisect_right

import numpy as np

from .batch import Batch
from .job import CacheChange
from .timing import Timing


class Stretch:
    """So many steps of all that run. Every sequence has one token to compute in each, and there are blocks for all."""

    def __init__(self, batch: Batch, timing: Timing, began_ms: float, steps: int) -> None:
        self._batch = batch
        self._running = list(batch.running)
        context = sum(each.tokens for each in self._running) + len(self._running) * np.arange(steps, dtype=np.float64)
        step_ms = timing.decode_ms(len(self._running), context, batch.capacity_tokens)
        ends_ms = np.cumsum(np.concatenate(([began_ms], step_ms)))[1:]  # added up in order, as if stepped
        self._ends_ms: list[float] = ends_ms.tolist()
        self._moves: list[tuple[int, int]] = []  # a heap of (step, place in the batch) at which blocks move
        for place in range(len(self._running)):
            self._expect(place)

    @property
    def end_ms(self) -> float:
        return self._ends_ms[-1]

    @property
    def next_ms(self) -> float:
        """The end of the next step that moves blocks, or of the last one."""
        return self._ends_ms[min(self._moves[0][0], len(self._ends_ms) - 1)]

    def under_way(self, now_ms: float) -> tuple[int, float]:
        """Count the steps up to the one under way, and say when that ends."""
        step = bisect_left(self._ends_ms, now_ms)
        return step + 1, self._ends_ms[step]

    def cut(self, now_ms: float) -> None:
        """Let the step under way be the last."""
        del self._ends_ms[bisect_left(self._ends_ms, now_ms) + 1 :]

    def advance(self, now_ms: float) -> list[CacheChange]:
        """Move the blocks of the steps that have ended."""
        ended, changes = bisect_right(self._ends_ms, now_ms), []
        while self._moves[0][0] < ended:
            step, place = heapq.heappop(self._moves)
            each = self._running[place]
            self._batch.grow(each, each.tokens + step)
            self._expect(place)
            changes += self._batch.cache.tell(self._ends_ms[step])
        return changes

    def finish(self) -> None:
        """Add the generated tokens to the sequences, once every step has ended."""
        steps = len(self._ends_ms)
        for each in self._running:
            each.tokens += steps
            each.computed = each.tokens - 1

    def _expect(self, place: int) -> None:
        each = self._running[place]
        heapq.heappush(self._moves, (self._batch.next_move(each) - each.tokens, place))


def decode_steps(batch: Batch) -> int:
    """Count the steps that can only decode: until the first sequence is done, or a block is missing."""
    running, cache = batch.running, batch.cache.gpu
    if not running or len(running) > batch.token_budget or not all(each.decodes for each in running):
        return 0
    if batch.admissible() is not None:
        return 0

    def missing(steps: int) -> int:
        return sum(batch.blocks_for(each.tokens + steps - 1) - len(each.blocks) for each in running)

    most = min(each.left for each in running)
    if missing(most) <= cache.free_blocks:
        return most
    return bisect_right(range(1, most + 1), cache.free_blocks, key=missing)
