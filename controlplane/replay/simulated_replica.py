"""A replica in virtual time: continuous batching over a paged cache, exact to the step, as quick as its events.

The scheduler is vLLM's, as Dynamo's mock engine has it: running sequences first, in the order they came; then waiting
ones while there is room; prompts cut to what the token budget leaves; the youngest gives way when blocks run out.
"""

import math
from collections.abc import Iterator, Sequence

from ...directory import Load
from .batch import Batch, Generation
from .block_cache import Name
from .foresight import Foresight
from .job import CacheChange, Job
from .stretch import Stretch, decode_steps
from .tiers import Tiers
from .timing import Timing

_SAME_MS = 1e-4  # times this near are one: a caller's clock may count in other units, and round
_SOON_MS = 1e-3  # later than that, and shorter than any step


class SimulatedReplica:
    """Times are milliseconds and never run backwards. Whoever comes at the very time a step begins is still in it."""

    def __init__(
        self,
        timing: Timing,
        *,
        blocks: int,
        block_tokens: int,
        max_sequences: int = 256,
        token_budget: int = 8192,
        cpu_blocks: int = 0,
        disk_blocks: int = 0,
        told: bool = True,
    ) -> None:
        self.timing = timing
        self._cache = Tiers(blocks, cpu_blocks, disk_blocks, told=told)
        self._batch = Batch(self._cache, block_tokens, max_sequences, token_budget)
        self._clock_ms = 0.0  # the end of the last step, or when the first job came after it
        self._stretch: Stretch | None = None
        self._step_end_ms: float | None = None
        self._ready: list[Generation] = []  # to get a token at the end of the step
        self._computing_tokens = 0  # of prompts, in the step under way
        self._changes: list[CacheChange] = []
        self._seen: list[Job] = []  # jobs something happened to

    @property
    def evicted_blocks(self) -> int:
        """Blocks whose content left the GPU."""
        return self._cache.evicted_blocks

    def held(self) -> Iterator[Name]:
        """Give the (domain, block id) of all that can be found, each once."""
        return self._cache.held()

    def submit(self, job: Job, now_ms: float) -> None:
        """Queue a job; the replica must have been advanced to this time."""
        self._assert_advanced(now_ms)
        job.arrived_ms = now_ms
        if not self._fits(job):
            job.refused = True
            return
        if self._stretch is not None and not self._batch.waiting:
            self._stretch.cut(now_ms)  # where others wait already, this one is behind them
        if self._stretch is None and self._step_end_ms is None:
            self._clock_ms = now_ms
        self._batch.add(job)

    def retime(self, timing: Timing, now_ms: float) -> None:
        """Let steps take another time from the next one on; the replica must have been advanced to this time."""
        self._assert_advanced(now_ms)
        self.timing = timing
        if self._stretch is not None:
            self._stretch.cut(now_ms)

    def advance(self, now_ms: float) -> Sequence[Job]:
        """Run all steps that have ended by now; give the jobs that got their first token or ended."""
        while self._under_way(now_ms):
            if self._stretch is not None:
                self._changes += self._stretch.advance(now_ms)
                if self._stretch.end_ms > now_ms:
                    break
                self._end_stretch(self._stretch)
            elif self._step_end_ms is not None:
                if self._step_end_ms > now_ms:
                    break
                self._end_step(self._step_end_ms)
        seen, self._seen = self._seen, []
        return seen

    def next_ms(self) -> float | None:
        """When to advance it next: something happens, or a step has begun and can be foreseen; None: idle."""
        if self._stretch is not None:
            return self._stretch.next_ms
        if self._step_end_ms is not None:
            return self._step_end_ms
        return None if self._idle else self._clock_ms + _SOON_MS

    def changes(self) -> Sequence[CacheChange]:
        """Give what has changed in the cache since the last time this was asked."""
        changes, self._changes = self._changes, []
        return changes

    def load(self) -> Load:
        """Say how busy it is. Waiting prompts count without what was cached as they came."""
        gpu = self._cache.gpu
        return Load(
            waiting_prefill_tokens=self._batch.waiting_tokens + self._computing_tokens,
            running_sequences=len(self._batch.running),
            decode_blocks=gpu.used_blocks,
            free_blocks=gpu.free_blocks,
            total_blocks=gpu.blocks,
            waiting_sequences=self._batch.waiting_jobs,
        )

    def cached_tokens(self, domain: int, block_ids: Sequence[int], prompt_tokens: int) -> int:
        """Count the prompt tokens it could reuse as it stands, in whatever tier."""
        depth = self._cache.depth(domain, block_ids, self._batch.reusable(prompt_tokens))
        return depth * self._batch.block_tokens

    def first_token_if_submitted(self, job: Job, now_ms: float) -> float:
        """Give when the job would get its first token if it came now and nobody after it; infinite if it never fits.

        Exact while no prefix is evicted, nobody gives way and blocks suffice until then.
        """
        self._assert_advanced(now_ms)
        if not self._fits(job):
            return math.inf
        steps, start_ms = 0, now_ms if self._step_end_ms is None else self._step_end_ms
        if self._stretch is not None:
            steps, start_ms = self._stretch.under_way(now_ms)
        foresight = Foresight(self._batch, self.timing, steps, self._ready)
        return foresight.first_token_ms(job, start_ms)

    @property
    def _idle(self) -> bool:
        return not (self._batch.running or self._batch.waiting)

    def _fits(self, job: Job) -> bool:
        return self._batch.blocks_for(job.prompt_tokens + job.output_tokens - 1) <= self._cache.gpu.blocks

    def _assert_advanced(self, now_ms: float) -> None:
        ahead_ms = self._clock_ms if self._step_end_ms is None else self._step_end_ms
        if self._stretch is not None:
            ahead_ms = self._stretch.end_ms
        assert self._idle or now_ms <= ahead_ms + _SAME_MS

    def _under_way(self, now_ms: float) -> bool:
        """Whether a step is; one that begins at this very time is not, since others may come to it."""
        if self._stretch is not None or self._step_end_ms is not None:
            return True
        if self._idle or self._clock_ms + _SAME_MS >= now_ms:
            return False
        steps = decode_steps(self._batch)
        if steps:
            self._stretch = Stretch(self._batch, self.timing, self._clock_ms, steps)
            return True
        plan = self._batch.plan(self._clock_ms)
        self._ready = self._batch.ready()
        self._computing_tokens = plan.new_tokens
        step_ms = self.timing.step_ms(self._batch.step(plan, self._ready))
        fetch_ms = self.timing.fetch_ms(
            plan.cpu_blocks * self._batch.block_tokens, plan.disk_blocks * self._batch.block_tokens
        )
        self._step_end_ms = self._clock_ms + step_ms + fetch_ms
        return True

    def _end_step(self, end_ms: float) -> None:
        self._clock_ms, self._step_end_ms = end_ms, None
        self._changes += self._cache.tell(end_ms)
        self._computing_tokens = 0
        ready, self._ready = self._ready, []
        for each in ready:
            each.tokens += 1
            if each.job.first_token_ms is None:
                self._batch.answer(each.job, end_ms)
                self._seen.append(each.job)
        self._end_done(ready)

    def _end_stretch(self, stretch: Stretch) -> None:
        self._clock_ms, self._stretch = stretch.end_ms, None
        stretch.finish()
        self._end_done(list(self._batch.running))

    def _end_done(self, generations: Sequence[Generation]) -> None:
        for each in generations:
            if not each.left:
                self._batch.end(each)
                each.job.ended_ms = self._clock_ms
                if each.job not in self._seen:
                    self._seen.append(each.job)
