"""Which sequences a replica runs, and what the next step computes of each."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from .job import Job
from .tiers import Hit, Tiers
from .timing import Step


@dataclass(slots=True, eq=False)
class Generation:
    """A job in progress. Its ids grow: a block that generated tokens complete has a negative one."""

    job: Job
    block_ids: list[int]  # of full blocks
    tokens: int  # prompt and generated ones
    waiting_tokens: int = 0  # of the prompt, not computed yet as far as is known
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    filled: int = 0  # leading blocks that others can find

    @property
    def decodes(self) -> bool:
        """Whether only the token that came last is to be computed."""
        return self.computed + 1 == self.tokens > self.job.prompt_tokens

    @property
    def left(self) -> int:
        """Tokens to be generated."""
        return self.job.prompt_tokens + self.job.output_tokens - self.tokens


@dataclass(slots=True)
class Plan:
    """A step in the making."""

    budget: int  # of tokens
    prompts: list[tuple[int, int]] = field(default_factory=list)  # tokens of one, and those computed before
    preempted: bool = False
    cpu_blocks: int = 0  # to be fetched
    disk_blocks: int = 0

    @property
    def new_tokens(self) -> int:
        """Tokens of prompts that are computed."""
        return sum(tokens for tokens, _ in self.prompts)


class Batch:
    """First come, first served. Who gave way stands first among the waiting, and keeps its tokens but no blocks."""

    def __init__(self, cache: Tiers, block_tokens: int, max_sequences: int, token_budget: int) -> None:
        self.running: list[Generation] = []
        self.waiting: deque[Generation] = deque()
        self.cache = cache
        self.block_tokens = block_tokens
        self.capacity_tokens = cache.gpu.blocks * block_tokens
        self.max_sequences = max_sequences
        self.token_budget = token_budget
        self.waiting_tokens = 0  # of all prompts
        self.waiting_jobs = 0  # that have not got their first token
        self._steps = 0  # with prompts, planned so far
        self._step_tokens = 0  # of prompts, in these
        self._generated_ids = count(-1, -1)

    def add(self, job: Job) -> None:
        """Queue a job."""
        full = job.prompt_tokens // self.block_tokens
        ids: list[int] = job.block_ids[:full].tolist()
        cached = self.cache.depth(job.domain, ids, self.reusable(job.prompt_tokens)) * self.block_tokens
        generation = Generation(job, ids, job.prompt_tokens)
        self._expect(generation, job.prompt_tokens - cached)
        self.waiting_jobs += 1
        self.waiting.append(generation)

    def reusable(self, tokens: int) -> int:
        """Count the blocks that need not be computed at best: the last token always is."""
        return max(tokens - 1, 0) // self.block_tokens

    def blocks_for(self, tokens: int) -> int:
        """Count the blocks that so many tokens lie in."""
        return -(-tokens // self.block_tokens)

    def plan(self, now_ms: float) -> Plan:
        """Give out a step's tokens; blocks change hands at once."""
        plan = Plan(self.token_budget)
        index = 0
        while index < len(self.running) and plan.budget:
            if self._advance(self.running[index], plan):
                index += 1
        while plan.budget and not plan.preempted:
            hit = self.admissible()
            if hit is None:
                break
            self._admit(self.waiting.popleft(), hit, plan, now_ms)
        self._steps += 1
        self._step_tokens += plan.new_tokens
        return plan

    def answer(self, job: Job, now_ms: float) -> None:
        """Note that a job gets its first token."""
        job.first_token_ms = now_ms
        job.steps += self._steps
        job.step_tokens += self._step_tokens
        self.waiting_jobs -= 1

    def step(self, plan: Plan, ready: Sequence[Generation]) -> Step:
        """Say what the planned step computes; those who are ready get a token of it."""
        decoding = [each for each in ready if each.tokens > each.job.prompt_tokens]
        return Step(
            prompts=len(plan.prompts),
            new_tokens=plan.new_tokens,
            cached_tokens=sum(before for _, before in plan.prompts),
            sequences=len(decoding),
            context_tokens=sum(each.tokens for each in decoding),
            capacity_tokens=self.capacity_tokens,
        )

    def ready(self) -> list[Generation]:
        """Give the running sequences whose every token is computed."""
        return [each for each in self.running if each.computed == each.tokens]

    def admissible(self) -> Hit | None:
        """Give what the next waiting sequence can reuse, if there is one and it may begin."""
        if not self.waiting or len(self.running) >= self.max_sequences:
            return None
        head = self.waiting[0]
        hit = self.cache.find(head.job.domain, head.block_ids)
        reusable = self.reusable(head.tokens)
        shared = min(self.cache.gpu.used(hit.blocks), reusable)
        if self.blocks_for(head.tokens) - shared > self.cache.gpu.free_blocks:
            return None
        return hit.cut(reusable)

    def grow(self, generation: Generation, computed: int) -> None:
        """Take blocks for tokens that are about to be computed, and let others find those that they complete."""
        missing = self.blocks_for(computed) - len(generation.blocks)
        if missing > 0:
            generation.blocks += self.cache.take(missing)
        generation.computed = computed
        full = computed // self.block_tokens
        if full > generation.filled:
            while len(generation.block_ids) < full:
                generation.block_ids.append(next(self._generated_ids))
            self.cache.fill(generation.job.domain, generation.block_ids, generation.blocks, generation.filled, full)
            generation.filled = full

    def next_move(self, generation: Generation) -> int:
        """Give the least count of computed tokens at which `grow` takes a block or lets one be found."""
        return min(len(generation.blocks) * self.block_tokens + 1, (generation.filled + 1) * self.block_tokens)

    def sole_blocks(self, generation: Generation) -> int:
        """Count the blocks that nobody else uses."""
        return len(generation.blocks) - self.cache.gpu.used(generation.blocks, above=1)

    def end(self, generation: Generation) -> None:
        """Take a sequence out that is done."""
        self.running.remove(generation)
        self.cache.gpu.release(generation.blocks)

    def _admit(self, generation: Generation, hit: Hit, plan: Plan, now_ms: float) -> None:
        job, cache = generation.job, self.cache
        cached = hit.depth * self.block_tokens
        if job.began_ms is None:
            job.began_ms, job.cached_tokens = now_ms, cached
            job.steps, job.step_tokens = -self._steps, -self._step_tokens
        self.running.append(generation)
        cache.gpu.share(hit.blocks)
        generation.blocks = list(hit.blocks)
        generation.filled = len(hit.blocks)
        if hit.depth > len(hit.blocks):
            cache.lift([(job.domain, block_id) for block_id in generation.block_ids[len(hit.blocks) : hit.depth]])
            plan.cpu_blocks += hit.cpu_blocks
            plan.disk_blocks += hit.disk_blocks
        self.grow(generation, cached)
        admitted = self._advance(generation, plan)
        assert admitted  # room for all of its tokens was there

    def _advance(self, generation: Generation, plan: Plan) -> bool:
        """Compute what the budget allows; False: it was itself the one to give way."""
        before = generation.computed
        tokens = min(generation.tokens - before, plan.budget)
        missing = self.blocks_for(before + tokens) - len(generation.blocks)
        while missing > self.cache.gpu.free_blocks:
            youngest = self.running[-1]
            self._preempt(youngest, plan)
            if youngest is generation:
                return False
        self.grow(generation, before + tokens)
        prompt = generation.job.prompt_tokens
        if before < prompt:
            plan.prompts.append((min(tokens, prompt - before), before))
        plan.budget -= tokens
        self._expect(generation, max(prompt - generation.computed, 0))
        return True

    def _preempt(self, generation: Generation, plan: Plan) -> None:
        plan.preempted = True
        self.running.pop()  # the youngest is planned for last: nothing of it is in the plan
        self.cache.gpu.release(generation.blocks)
        generation.blocks, generation.computed, generation.filled = [], 0, 0
        self._expect(generation, generation.job.prompt_tokens)
        self.waiting.appendleft(generation)

    def _expect(self, generation: Generation, tokens: int) -> None:
        self.waiting_tokens += tokens - generation.waiting_tokens
        generation.waiting_tokens = tokens
