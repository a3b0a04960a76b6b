"""When a job would get its first token: the replica's next steps in figures alone, with nobody coming after it."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count

import numpy as np

from .batch import Batch, Generation
from .job import Job
from .timing import Step, Timing


class Prompt:
    """What is to be computed before the next token; of a sequence that gave way, generated tokens are part of it."""

    __slots__ = ("blocks", "computed", "cpu_tokens", "disk_tokens", "left", "prompt_tokens", "tokens")

    def __init__(self, job: Job, tokens: int, computed: int) -> None:
        self.tokens = tokens
        self.prompt_tokens = job.prompt_tokens
        self.left = job.prompt_tokens + job.output_tokens - tokens
        self.computed = computed
        self.blocks = 0  # that it takes as it begins
        self.cpu_tokens = self.disk_tokens = 0  # to be fetched as it begins


class Foresight:
    """A batch from the end of its step under way. It foresees no block evicted, and nobody that has to give way."""

    def __init__(self, batch: Batch, timing: Timing, steps: int, ready: Collection[Generation]) -> None:
        """By then a stretch has done so many steps, or those who are ready have got a token."""
        self._batch, self._timing = batch, timing
        self._free_blocks = batch.cache.gpu.free_blocks
        self._step = 0
        self._context_tokens = 0  # of those that decode, had they not grown since step 0
        self._decoding: list[tuple[int, int, int, Callable[[], int]]] = []  # a heap: last step, order, context, blocks
        self._order = count()
        self._computing: list[Prompt] = []
        self._waiting: deque[Prompt] = deque()
        self._coming: dict[int, set[int]] = {}  # by domain: ids of blocks that the prompts ahead complete
        for each in batch.running:
            if each.filled < each.job.prompt_tokens // batch.block_tokens:
                self._coming.setdefault(each.job.domain, set()).update(each.block_ids)
            grown = steps or int(each in ready)
            if grown or each.decodes:
                self._decode(each.tokens + grown, each.left - grown, partial(batch.sole_blocks, each))
            else:
                self._computing.append(Prompt(each.job, each.tokens, each.computed))
        for each in batch.waiting:
            self._queue(each.job, each.block_ids, each.tokens)

    def first_token_ms(self, job: Job, now_ms: float) -> float:
        """Give when, if the job is queued and the step under way ends now."""
        full = job.prompt_tokens // self._batch.block_tokens
        awaited = self._queue(job, job.block_ids[:full].tolist(), job.prompt_tokens)
        while awaited.computed < awaited.tokens:
            now_ms += self._compute() if self._computing or self._fits(0) else self._pass()
        return now_ms

    def _queue(self, job: Job, block_ids: Sequence[int], tokens: int) -> Prompt:
        batch = self._batch
        cache, coming = batch.cache, self._coming.setdefault(job.domain, set())
        depth = cache.depth(job.domain, block_ids, batch.reusable(tokens), coming)
        prompt = Prompt(job, tokens, depth * batch.block_tokens)

        def unused(block_id: int) -> bool:
            return block_id not in coming and not cache.gpu.users(job.domain, block_id)

        prompt.blocks = batch.blocks_for(tokens) - bisect_right(block_ids, False, hi=depth, key=unused)
        cpu_blocks, disk_blocks = cache.below(job.domain, block_ids[:depth])
        prompt.cpu_tokens, prompt.disk_tokens = cpu_blocks * batch.block_tokens, disk_blocks * batch.block_tokens
        coming.update(block_ids)
        self._waiting.append(prompt)
        return prompt

    def _fits(self, computed: int) -> bool:
        """Whether the next one waiting may begin, beside so many that have been computed in the same step."""
        running = len(self._decoding) + len(self._computing) + computed
        if not self._waiting or running >= self._batch.max_sequences:
            return False
        return not running or self._waiting[0].blocks <= self._free_blocks  # beside nobody, anybody fits

    def _compute(self) -> float:
        """Do a step that computes prompts; give what it takes."""
        budget = self._batch.token_budget - len(self._decoding)
        sequences, context = len(self._decoding), self._context()
        prompts = new = cached = cpu_tokens = disk_tokens = 0
        parts: list[Prompt] = []
        while budget > 0 and (self._computing or self._fits(len(parts))):
            if self._computing:
                each = self._computing.pop(0)
            else:
                each = self._waiting.popleft()
                self._free_blocks -= each.blocks
                cpu_tokens, disk_tokens = cpu_tokens + each.cpu_tokens, disk_tokens + each.disk_tokens
            parts.append(each)
            tokens = min(each.tokens - each.computed, budget)
            of_prompt = min(tokens, max(each.prompt_tokens - each.computed, 0))
            if of_prompt:
                prompts, new, cached = prompts + 1, new + of_prompt, cached + each.computed
            each.computed += tokens
            budget -= tokens
            if each.computed == each.tokens > each.prompt_tokens:
                sequences, context = sequences + 1, context + each.tokens
        self._end_step()
        self._computing = [each for each in parts if each.computed < each.tokens] + self._computing
        for each in parts:
            if each.computed == each.tokens:
                self._decode(each.tokens + 1, each.left - 1, partial(int, each.blocks))
        step = Step(prompts, new, cached, sequences, context, self._batch.capacity_tokens)
        return self._timing.step_ms(step) + self._timing.fetch_ms(cpu_tokens, disk_tokens)

    def _pass(self) -> float:
        """Decode until the first sequence is done; give what it takes."""
        sequences, steps = len(self._decoding), self._decoding[0][0] - self._step + 1
        context = self._context() + sequences * np.arange(steps, dtype=np.float64)
        self._step += steps - 1
        self._end_step()
        return float(self._timing.decode_ms(sequences, context, self._batch.capacity_tokens).sum())

    def _context(self) -> int:
        return self._context_tokens + self._step * len(self._decoding)

    def _decode(self, tokens: int, left: int, blocks: Callable[[], int]) -> None:
        if not left:
            self._free_blocks += blocks()
            return
        context = tokens - self._step
        self._context_tokens += context
        heappush(self._decoding, (self._step + left - 1, next(self._order), context, blocks))

    def _end_step(self) -> None:
        while self._decoding and self._decoding[0][0] == self._step:
            _, _, context, blocks = heappop(self._decoding)
            self._context_tokens -= context
            self._free_blocks += blocks()
        self._step += 1
