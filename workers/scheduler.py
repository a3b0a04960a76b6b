"""What the next step of an engine computes: continuous batching with chunked prefill over one block pool.

Everything known and not computed yet is work, be it a prompt or the token sampled last. Oldest first; when blocks
run short the youngest sequence gives its own back and waits, so the oldest always moves on and nothing deadlocks.
A sequence whose blocks are being read from disk has none until they are there, and holds nobody up.
"""

import struct
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .block_pool import BlockPool, Table
from .engine import Delta, EngineLoad, EngineRequest, Unservable


@dataclass(slots=True, eq=False)
class Generation:
    """One request on its way, from arrival to its last token."""

    request: EngineRequest
    table: Table
    arrived: float  # seconds on the engine's clock, as the two below
    prefill_began: float | None = None
    first_token: float | None = None
    cached_tokens: int = 0
    computed: int = 0  # leading tokens whose KV is in the table's blocks
    before: tuple[int, int] = (0, 0)  # steps, and prompt tokens computed in them, when its prefill began
    steps: int = 0  # the same, from there to its first token
    step_tokens: int = 0

    @property
    def output_tokens(self) -> int:
        return self.table.tokens - self.request.prompt_tokens


@dataclass(frozen=True, slots=True)
class Work:
    """A run of one sequence's tokens to feed to the model in a step."""

    generation: Generation
    start: int
    tokens: int

    @property
    def samples(self) -> bool:
        """Whether the step ends at the last known token, so that the next one is drawn."""
        return self.start + self.tokens == self.generation.table.tokens

    @property
    def decodes(self) -> bool:
        return self.start >= self.generation.request.prompt_tokens


class Scheduler:
    """Holds no numbers but counts; the caller computes each plan before it asks for the next."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_sequences: int,
        prefill_chunk: int,
        context: int,
        vocabulary: int,
        stop_ids: Collection[int],
    ) -> None:
        self.pool = pool
        self.max_sequences = max_sequences
        self.max_tokens = min(context, pool.blocks * pool.block_tokens)  # prompt and output of one sequence
        self._prefill_chunk = prefill_chunk
        self._vocabulary = vocabulary
        self._stop_ids = stop_ids
        self._steps = 0
        self._step_tokens = 0  # of prompts, in all steps
        self._waiting: deque[Generation] = deque()
        self._running: list[Generation] = []

    def check(self, request: EngineRequest) -> None:
        """Raise `Unservable` for what could never run: in a step it would end the engine for everyone."""
        if not 1 <= request.prompt_tokens < self.max_tokens:
            raise Unservable(f"a prompt has 1 to {self.max_tokens - 1} tokens here; got {request.prompt_tokens}")
        if (highest := np.frombuffer(request.words, "<u4").max()) >= self._vocabulary:
            raise Unservable(f"token ids are below {self._vocabulary} here; got {highest}")
        if request.sampling.max_tokens < 1:
            raise Unservable(f"max_tokens is at least 1; got {request.sampling.max_tokens}")

    def add(self, request: EngineRequest, now: float) -> Generation:
        """Queue a request that `check` accepts."""
        table = Table(request.salt, bytearray(request.words), public=request.public)
        generation = Generation(request, table, arrived=now)
        self._waiting.append(generation)
        return generation

    def remove(self, generation: Generation) -> None:
        """Stop a generation, wherever it stands, and free its blocks; one that has ended stays so.

        Safe while a step is computed: a block given back is taken again by the next plan at the earliest.
        """
        if generation in self._waiting:
            self._waiting.remove(generation)
        if generation in self._running:
            self._running.remove(generation)
            self.pool.release(generation.table)

    def plan(self, now: float) -> list[Work]:
        """Choose the next step's work; empty only when there is none."""
        budget = self._prefill_chunk
        step: list[Work] = []
        waiting_before = len(self._waiting)
        for generation in list(self._running):
            if not self._has_come(generation):
                continue
            pending = generation.table.tokens - generation.computed
            tokens = pending if pending == 1 else min(pending, budget)
            if not tokens or not self._make_room(generation, generation.computed + tokens):
                continue
            step.append(self._work(generation, tokens, now))
            budget -= tokens if pending > 1 else 0
        if len(self._waiting) == waiting_before:  # after a preemption the freed blocks are spoken for
            step.extend(self._admit(budget, now))
        return step

    def finish(self, step: Sequence[Work], sampled: Sequence[int], now: float) -> list[tuple[Generation, Delta]]:
        """Take a computed step's tokens, one for each work that `samples`, in order."""
        self._steps += 1
        self._step_tokens += sum(work.tokens for work in step if not work.decodes)
        deltas: list[tuple[Generation, Delta]] = []
        tokens = iter(sampled)
        for work in step:
            generation = work.generation
            token = next(tokens) if work.samples else None
            if generation not in self._running:
                continue  # removed while the step was computed
            generation.computed = work.start + work.tokens
            self.pool.store(generation.table, generation.computed)
            if token is not None:
                deltas.append((generation, self._deliver(generation, token, now)))
        return deltas

    def load(self) -> EngineLoad:
        """Count the work at hand; prompts still queued count with what the cache will not spare them."""
        lacking = [run.request.prompt_tokens - run.computed - self._coming_tokens(run) for run in self._running]
        prefilling = [tokens for tokens in lacking if tokens > 0]
        queued = sum(wait.table.tokens - self.pool.cached_tokens(wait.table) for wait in self._waiting)
        return EngineLoad(
            waiting_prefill_tokens=sum(prefilling) + queued,
            running_sequences=len(self._running),
            decode_blocks=self.pool.blocks - self.pool.free_blocks,
            free_blocks=self.pool.free_blocks,
            waiting_sequences=len(prefilling) + len(self._waiting),
        )

    def _make_room(self, generation: Generation, tokens: int) -> bool:
        """Preempt from the youngest on until the blocks suffice; False if `generation` itself had to go."""
        if generation not in self._running:
            return False
        while not self.pool.grow(generation.table, tokens):
            youngest = self._running.pop()
            self.pool.release(youngest.table)
            self._waiting.appendleft(youngest)
            if youngest is generation:
                return False
        return True

    def _admit(self, budget: int, now: float) -> Iterator[Work]:
        while budget > 0 and self._waiting and len(self._running) < self.max_sequences:
            generation = self._waiting[0]
            if not self.pool.open(generation.table):
                return
            self._running.append(self._waiting.popleft())
            generation.computed = generation.table.stored * self.pool.block_tokens
            if not self._has_come(generation):
                continue
            tokens = min(generation.table.tokens - generation.computed, budget)
            budget -= tokens
            yield self._work(generation, tokens, now)

    def _coming_tokens(self, generation: Generation) -> int:
        coming = generation.table.coming
        return len(coming.blocks) * self.pool.block_tokens if coming else 0

    def _has_come(self, generation: Generation) -> bool:
        """Whether nothing is under way from the tiers below; what has come counts as computed from here on."""
        if generation.table.coming is None:
            return True
        blocks = self.pool.fill(generation.table)
        if blocks is None:
            return False
        generation.computed = blocks * self.pool.block_tokens
        return True

    def _work(self, generation: Generation, tokens: int, now: float) -> Work:
        if generation.prefill_began is None:
            generation.prefill_began = now
            generation.before = (self._steps, self._step_tokens)
            generation.cached_tokens = generation.computed
        return Work(generation, generation.computed, tokens)

    def _deliver(self, generation: Generation, token: int, now: float) -> Delta:
        generation.table.words += struct.pack("<I", token)
        if generation.first_token is None:
            generation.first_token = now
            steps, tokens = generation.before
            generation.steps, generation.step_tokens = self._steps - steps, self._step_tokens - tokens
        assert generation.prefill_began is not None, "a running sequence has been admitted"
        finish = self._finish(generation, token)
        if finish:
            self.remove(generation)
        return Delta(
            token_ids=(token,),
            cached_tokens=generation.cached_tokens,
            queue_ms=(generation.prefill_began - generation.arrived) * 1e3,
            prefill_ms=(generation.first_token - generation.prefill_began) * 1e3,
            finish=finish,
            steps=generation.steps,
            step_tokens=generation.step_tokens,
        )

    def _finish(self, generation: Generation, token: int) -> Literal["stop", "length"] | None:
        sampling = generation.request.sampling
        if token in sampling.stop_token_ids or (token in self._stop_ids and not sampling.ignore_eos):
            return "stop"
        if generation.output_tokens >= sampling.max_tokens or generation.table.tokens >= self.max_tokens:
            return "length"
        return None
